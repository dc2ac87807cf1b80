"""Multicast netlink in every namespace of ours, as one asynchronous stream of reasons.

Called by the ports' `watch()`. Namespaces come and go: a socket is opened when `Namespaces` finds one and closed before
it is deleted. Reasons are coalesced: however many events wait, each text is given once. When the kernel had to drop
events (ENOBUFS) the reason is "overrun": look at everything.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Final

from appliance.kernel import syscalls
from appliance.kernel.namespaces import SOL_NETLINK, Namespaces
from appliance.kernel.netlink import NETLINK_ROUTE
from appliance.model.errors import KernelError
from appliance.model.facts import HOST, Namespace

if TYPE_CHECKING:
    import socket

NETLINK_ADD_MEMBERSHIP: Final = 1
#: RTNLGRP_*
LINK, NEIGH, ADDRESS4, ADDRESS6 = 1, 3, 5, 9
LISTENING, OVERRUN = "listening", "overrun"
#: How a reason begins where a device began or ceased to carry packets, and took along what leads through it.
CARRIER: Final = "carrier"
_RECEIVE: Final = 1 << 16
#: Datagrams read from one socket before others get their turn.
_DRAIN: Final = 256

Describe = Callable[[Namespace, bytes], str | None]


class Watcher:
    """Sockets in all namespaces that feed one set of reasons."""

    def __init__(self, namespaces: Namespaces, protocol: int, groups: tuple[int, ...], describe: Describe) -> None:
        """`describe` turns a datagram into a reason, or None if it does not matter."""
        self._namespaces, self._protocol, self._groups, self._describe = namespaces, protocol, groups, describe
        self._sockets: dict[Namespace, socket.socket] = {}
        self._reasons: dict[str, None] = {}
        self._wake = asyncio.Event()

    async def run(self) -> AsyncIterator[str]:
        """Yield LISTENING once nothing can be missed any more, then reasons for ever."""
        self._namespaces.on_made(self._open)
        self._namespaces.on_gone(self._close)
        try:
            for ns in (HOST, *self._namespaces.names()):
                self._open(ns)
            self._reasons = {LISTENING: None}
            while True:
                await self._wake.wait()
                self._wake.clear()
                reasons, self._reasons = tuple(self._reasons), {}
                for reason in reasons:
                    yield reason
        finally:
            self._namespaces.forget(self._open)
            self._namespaces.forget(self._close)
            for ns in tuple(self._sockets):
                self._close(ns)

    def _open(self, ns: Namespace) -> None:
        """Listen in a namespace; what happened there before is a reason to look."""
        if ns in self._sockets:
            return
        try:
            made = self._sockets[ns] = self._namespaces.new_netlink_socket(self._protocol, ns)
        except KernelError:  # gone between its name and its opening: nothing to listen to
            return
        made.setblocking(False)  # noqa: FBT003 - the standard library's signature
        for group in self._groups:
            made.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
        asyncio.get_running_loop().add_reader(made, self._receive, ns)
        self._say(f"namespace {ns}")

    def _close(self, ns: Namespace) -> None:
        """Stop listening: a socket would keep the namespace alive."""
        made = self._sockets.pop(ns, None)
        if made is not None:
            asyncio.get_running_loop().remove_reader(made)
            made.close()
            self._say(f"namespace {ns}")

    def _receive(self, ns: Namespace) -> None:
        """Read what is there."""
        for _ in range(_DRAIN):
            try:
                datagram = self._sockets[ns].recv(_RECEIVE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._say(OVERRUN)
                continue
            reason = self._describe(ns, datagram)
            if reason is not None:
                self._say(reason)

    def _say(self, reason: str) -> None:
        """Keep a reason and wake the reader."""
        self._reasons[reason] = None
        self._wake.set()


def watch_route(namespaces: Namespaces, groups: tuple[int, ...], what: str) -> AsyncIterator[str]:
    """Yield `what` and the namespace for every rtnetlink event of the groups."""
    return Watcher(namespaces, NETLINK_ROUTE, groups, lambda ns, _: f"{what} {ns}".rstrip()).run()


async def watch_directory(namespaces: Namespaces) -> AsyncIterator[str]:
    """Yield whenever a name appears in, or goes from, the directory of namespaces."""
    namespaces.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    fd = syscalls.inotify(namespaces.directory, syscalls.IN_CREATE | syscalls.IN_DELETE)
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, changed.set)
    try:
        yield LISTENING
        while True:
            await changed.wait()
            syscalls.drain(fd)
            changed.clear()
            yield "namespaces"
    finally:
        loop.remove_reader(fd)
        syscalls.close(fd)
