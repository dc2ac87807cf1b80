"""Exchanges of one netlink protocol in any namespace: what a kernel port asks through.

Above `namespaces`, which keeps the sockets, and `netlink`, which knows the wire.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from appliance.kernel.netlink import Answer, Message, batch, get, stream
from appliance.model.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.kernel.namespaces import Namespaces
    from appliance.model.facts import Namespace

#: A dump that is interrupted by changes is asked for again, so often.
_DUMPS: Final = 10


class Netlink:
    """Exchanges of one netlink protocol in any namespace, with errors that name the subsystem."""

    def __init__(self, namespaces: Namespaces, protocol: int, subsystem: str) -> None:
        """Sockets are those that `namespaces` keeps."""
        self.namespaces, self.protocol, self.subsystem = namespaces, protocol, subsystem

    def batch(self, ns: Namespace, requests: Sequence[Message]) -> list[Answer]:
        """Send all in `ns`; return the kernel's answer to each."""
        return batch(self.namespaces.netlink_socket(self.protocol, ns), requests)

    def one(self, ns: Namespace, request: Message, what: str) -> None:
        """Send one request; raise what the kernel says against it."""
        said = self.batch(ns, [request])[0]
        if said.errno:
            raise self.error(what, said)

    def get(self, ns: Namespace, request: Message) -> memoryview | Answer:
        """Ask for one object in `ns`."""
        return get(self.namespaces.netlink_socket(self.protocol, ns), request)

    def dump(self, ns: Namespace, request: Message) -> list[memoryview]:
        """Return the payloads of a whole dump; asked again while the kernel says that it changed meanwhile."""
        link = self.namespaces.netlink_socket(self.protocol, ns)
        for _ in range(_DUMPS):
            try:
                return list(stream(link, request))
            except OSError as error:
                if error.errno != errno.EINTR:
                    raise KernelError(self.subsystem, f"dump {request.type}", error.errno or errno.EIO) from error
        raise KernelError(self.subsystem, f"dump {request.type} changes all the time", errno.EINTR)

    def error(self, what: str, said: Answer) -> KernelError:
        """Make the error of an answer."""
        return KernelError(
            self.subsystem,
            f"{what}: {said.message}" if said.message else what,
            said.errno,
        )
