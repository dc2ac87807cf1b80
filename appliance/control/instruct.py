"""Takes instructions of service nodes on their own links (design 0007), and answers when the kernel has them.

One UDP socket for each service node of this host, in the namespace of its VPC, bound to its device and to the edge's
address there; only what comes from the node's own address counts. What stands in the octets is `services.flows.inband`,
what becomes of a request is the business of whoever gave `instruct`. Datagrams that wait together are handed over
together, in their order, so that many requests can be one transaction.

A datagram can do no more than be counted: what is malformed, foreign or too much is logged at most once a second.
Called by `appliance.control.daemon`.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Final

import structlog

from appliance.control.tasks import Tasks
from appliance.kernel.namespaces import SO_RCVBUFFORCE, Identity, Namespaces
from appliance.model.errors import KernelError
from appliance.model.facts import Namespace
from appliance.model.marks import INSTRUCT_PORT
from services.flows.inband import (
    LONGEST,
    Answer,
    Request,
    Status,
    decode_request,
    encode_answer,
)
from services.steering import ServiceLink

log = structlog.get_logger()

#: Is told the service node that asks and what it asks, in order; returns what became of each when the kernel has it.
Instruct = Callable[[ServiceLink, Sequence[Request]], Awaitable[Sequence[Status]]]

#: Datagrams a second that one service node may send, and how many of them at once.
RATE: Final = 10_000
#: Datagrams handed over together at most.
TOGETHER: Final = 256
#: Seconds between attempts to open a link, between looks whether it is still the same, and between two logs about it.
PAUSE: Final = 1.0
#: Octets that may wait in the kernel while a transaction is under way: some thousand datagrams.
_BUFFER: Final = 4 << 20

Sender = tuple[str, int]


@dataclass(slots=True)
class Bucket:
    """Lets `rate` things a second pass, and as many at once after a quiet second."""

    rate: float
    held: float
    filled: float

    def take(self, now: float) -> bool:
        """Tell whether one more may pass."""
        self.held = min(self.rate, self.held + (now - self.filled) * self.rate)
        self.filled = now
        if self.held < 1:
            return False
        self.held -= 1
        return True


@dataclass(slots=True)
class Counts:
    """Datagrams of one service node's link: `requests` were handed over, `failed` of them by a bug or the kernel."""

    requests: int = 0
    failed: int = 0
    malformed: int = 0
    #: From another address than the service node's.
    foreign: int = 0
    #: More than `RATE`.
    limited: int = 0
    #: Answers that could not be sent.
    unanswered: int = 0

    @property
    def suspicious(self) -> int:
        """Datagrams that nobody should have sent."""
        return self.malformed + self.foreign + self.limited


class Link:
    """The socket of one service node while it is open; closed at once when its namespace goes."""

    def __init__(self, namespaces: Namespaces, link: ServiceLink) -> None:
        """Open it; KernelError or OSError when namespace, device or address are not there (yet)."""
        self._namespaces, self.link, self._ns = namespaces, link, link.ns
        self._readable = asyncio.Event()
        self._identity: Identity = namespaces.identity(link.ns)
        with namespaces.in_namespace(link.ns):
            self._index = socket.if_nametoindex(link.device)
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _BUFFER)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.device.encode())
            self._socket.bind((str(link.edge.ip), INSTRUCT_PORT))
        except OSError:
            self._socket.close()
            raise
        namespaces.on_gone(self._gone)

    def close(self) -> None:
        """Let go of the namespace: a socket would keep it alive."""
        self._namespaces.forget(self._gone)
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()

    async def receive(self) -> list[tuple[bytes, Sender]]:
        """Return what came, as much as is there; nothing after a second without any."""
        loop = asyncio.get_running_loop()
        self._readable.clear()
        loop.add_reader(self._socket, self._readable.set)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(PAUSE):
                    await self._readable.wait()
        finally:
            if self._socket.fileno() >= 0:
                loop.remove_reader(self._socket)
        found: list[tuple[bytes, Sender]] = []
        with suppress(BlockingIOError):
            while len(found) < TOGETHER and self._socket.fileno() >= 0:
                found.append(self._socket.recvfrom(LONGEST + 1))
        return found

    def send(self, octets: bytes, to: Sender) -> bool:
        """Send an answer; tell whether that was possible."""
        try:
            self._socket.sendto(octets, to)
        except OSError:
            return False
        return True

    def stands(self) -> bool:
        """Tell whether namespace and device are still those in which the socket is: it would hear no other."""
        try:
            with self._namespaces.in_namespace(self._ns):
                index = socket.if_nametoindex(self.link.device)
            return (self._socket.fileno() >= 0, self._namespaces.identity(self._ns), index) == (
                True,
                self._identity,
                self._index,
            )
        except (KernelError, OSError):
            return False

    def _gone(self, ns: Namespace) -> None:
        if ns == self._ns:
            self.close()
            self._readable.set()


class InBand:
    """Listens on the links of all service nodes of this host."""

    def __init__(self, namespaces: Namespaces, tasks: Tasks, instruct: Instruct, rate: float = RATE) -> None:
        """`instruct` is told what service nodes ask for; `rate` is how many datagrams a second each may send."""
        self._namespaces, self._tasks, self._instruct, self._rate = namespaces, tasks, instruct, rate
        self._wanted: frozenset[ServiceLink] = frozenset()
        self._open: set[ServiceLink] = set()
        self._counts: dict[ServiceLink, Counts] = {}

    @property
    def counts(self) -> Mapping[ServiceLink, Counts]:
        """What came on each link since it was first wanted."""
        return self._counts

    @property
    def open(self) -> frozenset[ServiceLink]:
        """The links on which somebody listens now."""
        return frozenset(self._open)

    async def watch(self, wanted: Collection[ServiceLink]) -> None:
        """Listen on exactly these links from now on; those that stay are not disturbed."""
        gone, self._wanted = self._wanted - set(wanted), frozenset(wanted)
        if gone:
            await self._tasks.stop(*map(_name, gone))
        self._counts = {link: self._counts.get(link, Counts()) for link in sorted(wanted)}
        for link in self._counts:
            self._tasks.start(_name(link), lambda link=link: self._serve(link))  # type: ignore[misc]

    async def _serve(self, link: ServiceLink) -> None:
        """Open the link as often as needed, and serve it."""
        while True:
            try:
                opened = Link(self._namespaces, link)
            except (KernelError, OSError):
                await asyncio.sleep(PAUSE)
                continue
            self._open.add(link)
            log.info("instructions-open", vpc=link.vpc, node=link.name)
            try:
                await self._listen(opened, self._counts[link])
            finally:
                self._open.discard(link)
                opened.close()

    async def _listen(self, opened: Link, counts: Counts) -> None:
        """Hand over what comes until the link is no longer the same."""
        now = time.monotonic()
        bucket, told, at = Bucket(self._rate, self._rate, now), counts.suspicious, now - PAUSE
        while True:
            came = await opened.receive()
            if not came and not opened.stands():
                return
            await self._hand_over(opened, counts, [one for one in came if _allowed(one, opened, bucket, counts)])
            now = time.monotonic()
            if counts.suspicious > told and now - at >= PAUSE:
                told, at = counts.suspicious, now
                log.warning("instructions-refused", vpc=opened.link.vpc, node=opened.link.name, **asdict(counts))

    async def _hand_over(self, opened: Link, counts: Counts, came: Sequence[tuple[bytes, Sender]]) -> None:
        """Have requests carried out together, and answer each."""
        asked: list[tuple[Request, Sender]] = []
        for octets, sender in came:
            found = decode_request(octets)
            if isinstance(found, Request):
                asked.append((found, sender))
                continue
            counts.malformed += 1
            if found.number is not None:
                counts.unanswered += not opened.send(encode_answer(Answer(found.number, Status.MALFORMED)), sender)
        if asked:
            counts.requests += len(asked)
            became = await self._carry_out(opened.link, [request for request, _ in asked])
            for (request, sender), status in zip(asked, became, strict=True):
                counts.failed += status is Status.FAILED
                counts.unanswered += not opened.send(encode_answer(Answer(request.number, status)), sender)

    async def _carry_out(self, link: ServiceLink, requests: Sequence[Request]) -> Sequence[Status]:
        """Have requests carried out; what goes wrong there must not end the listening."""
        try:
            became = await self._instruct(link, requests)
        except Exception:
            log.exception("instruct-failed", vpc=link.vpc, node=link.name, requests=len(requests))
            became = ()
        return became if len(became) == len(requests) else [Status.FAILED] * len(requests)


def _allowed(one: tuple[bytes, Sender], opened: Link, bucket: Bucket, counts: Counts) -> bool:
    """Tell whether a datagram may be looked into; count why not."""
    if one[1][0] != str(opened.link.node):
        counts.foreign += 1
        return False
    if not bucket.take(time.monotonic()):
        counts.limited += 1
        return False
    return True


def _name(link: ServiceLink) -> str:
    return f"instructions {link}"
