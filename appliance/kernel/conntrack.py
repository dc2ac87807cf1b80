"""Flow records of the kernel: look up, dump, mark, delete, count, and follow as they come and go.

Not a port of facts: nobody desires a flow record. The hash of records is one for the whole machine, so a dump costs what
all namespaces hold together: follow `events` and delete exact records; dump to begin with, or when events were lost.

The kernel tells about a record only if somebody listened in its namespace when it was made
(net.netfilter.nf_conntrack_events = 2).
"""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol

from appliance.kernel.conntrack_codec import (
    CT_DELETE,
    CT_NEW,
    CtEntry,
    decode,
    delete_message,
    dump_message,
    get_message,
    mark_message,
    timeout_message,
)
from appliance.kernel.exchanges import Netlink
from appliance.kernel.namespaces import SOL_NETLINK
from appliance.kernel.netlink import NETLINK_NETFILTER, Answer, Message, messages, stream
from appliance.kernel.watching import NETLINK_ADD_MEMBERSHIP
from appliance.model.errors import KernelError

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from appliance.kernel.namespaces import Namespaces
    from appliance.model.facts import FlowKey, Namespace

NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_DESTROY = 1, 3
_COUNT: Final = Path("/proc/sys/net/netfilter/nf_conntrack_count")
_RECEIVE: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class CtEvent:
    """A record was made, or is gone; `listening`: nothing is missed from now on; `overrun`: some were, dump to know."""

    kind: Literal["listening", "new", "destroy", "overrun"]
    entry: CtEntry | None = None


class Conntrack(Protocol):
    """What the real one and the fake can do."""

    def dump(
        self, ns: Namespace, zone: int | None = None, mark: int | None = None, mask: int = 0xFFFF_FFFF
    ) -> Iterator[CtEntry]:
        """Yield the records of a namespace, those of a zone, or those whose mark under `mask` is `mark`."""
        ...

    def get(self, ns: Namespace, key: FlowKey) -> CtEntry | None:
        """Return the record of a flow, found by its exact tuple and zone: the cost does not depend on the others."""
        ...

    def delete(self, ns: Namespace, entries: Iterable[CtEntry]) -> int:
        """Delete exactly these records; return how many there were."""
        ...

    def set_mark(self, ns: Namespace, entries: Iterable[CtEntry], mark: int, mask: int = 0xFFFF_FFFF) -> int:
        """Set the bits under `mask` of these records' marks; return how many there were."""
        ...

    def set_timeout(self, ns: Namespace, entries: Iterable[CtEntry], seconds: int) -> int:
        """Have these records end after so many silent seconds; return how many there were."""
        ...

    def count(self, ns: Namespace) -> int:
        """Return how many records a namespace holds."""
        ...

    def events(self, ns: Namespace) -> AsyncIterator[CtEvent]:
        """Yield what happens from now on, until the namespace is gone; `listening` first."""
        ...


class KernelConntrack:
    """Records of the real kernel, over ctnetlink."""

    def __init__(self, namespaces: Namespaces) -> None:
        """Speak ctnetlink in `namespaces`."""
        self.namespaces = namespaces
        self._netlink = Netlink(namespaces, NETLINK_NETFILTER, "conntrack")

    def dump(
        self, ns: Namespace, zone: int | None = None, mark: int | None = None, mask: int = 0xFFFF_FFFF
    ) -> Iterator[CtEntry]:
        """Yield records as they arrive, over a socket of their own: the caller may ask other things meanwhile."""
        with self.namespaces.new_netlink_socket(NETLINK_NETFILTER, ns) as link:
            try:
                for payload in stream(link, dump_message(mark, mask, zone)):
                    entry = decode(payload)
                    if zone is None or entry.zone == zone:
                        yield entry
            except OSError as error:
                raise KernelError("conntrack", f"{ns} dump", error.errno or errno.EIO) from error

    def get(self, ns: Namespace, key: FlowKey) -> CtEntry | None:
        """Ask for one record."""
        found = self._netlink.get(ns, get_message(key))
        if not isinstance(found, Answer):
            return decode(found)
        if found.errno != errno.ENOENT:
            raise self._netlink.error(f"{ns} {key}", found)
        return None

    def delete(self, ns: Namespace, entries: Iterable[CtEntry]) -> int:
        """Delete in packed batches; one that is gone already is nothing."""
        return self._each(ns, entries, delete_message)

    def set_mark(self, ns: Namespace, entries: Iterable[CtEntry], mark: int, mask: int = 0xFFFF_FFFF) -> int:
        """Mark in packed batches; one that is gone already is nothing."""
        return self._each(ns, entries, lambda entry: mark_message(entry, mark, mask))

    def set_timeout(self, ns: Namespace, entries: Iterable[CtEntry], seconds: int) -> int:
        """Tell in packed batches; one that is gone already is nothing."""
        return self._each(ns, entries, lambda entry: timeout_message(entry, seconds))

    def _each(self, ns: Namespace, entries: Iterable[CtEntry], message: Callable[[CtEntry], Message]) -> int:
        """Send a message for each record; return how many the kernel found."""
        found = 0
        given = tuple(entries)
        for entry, said in zip(given, self._netlink.batch(ns, [message(entry) for entry in given]), strict=True):
            if said.errno not in {0, errno.ENOENT}:
                raise self._netlink.error(f"{ns} {entry}", said)
            found += not said.errno
        return found

    def count(self, ns: Namespace) -> int:
        """Read the kernel's own counter. A kernel whose tracker is a module that nothing needed yet has neither."""
        with self.namespaces.in_namespace(ns):
            try:
                return int(_COUNT.read_text())
            except FileNotFoundError:
                return 0

    async def events(self, ns: Namespace) -> AsyncIterator[CtEvent]:
        """Listen, and survive lost events."""
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        link = self.namespaces.new_netlink_socket(NETLINK_NETFILTER, ns)

        def close(name: Namespace) -> None:
            if name == ns and link.fileno() != -1:
                loop.remove_reader(link)
                link.close()
                readable.set()

        self.namespaces.on_gone(close)
        try:
            link.setblocking(False)  # noqa: FBT003 - the standard library's signature
            for group in (NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_DESTROY):
                link.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
            loop.add_reader(link, readable.set)
            yield CtEvent("listening")
            while link.fileno() != -1:
                await readable.wait()
                readable.clear()
                for event in _receive(link):
                    yield event
        finally:
            self.namespaces.forget(close)
            close(ns)


def _receive(link: socket.socket) -> Iterator[CtEvent]:
    """Yield what waits on a socket."""
    while link.fileno() != -1:
        try:
            datagram = link.recv(_RECEIVE)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            yield CtEvent("overrun")
            continue
        for kind, _, _, payload in messages(datagram):
            if kind in {CT_NEW, CT_DELETE}:
                yield CtEvent("new" if kind == CT_NEW else "destroy", decode(payload))
