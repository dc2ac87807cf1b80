"""Routes through a socket: dumps of them, and packed batches of which only the last message is acknowledged.

The kernel works a batch off in order and answers errors also where no acknowledgement was asked for, so the answer to
the last message says that all before it are done, and sequence numbers lead each error back to its change. Called by
`routetable`; the bytes are made and read by `rtnetlink`.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from appliance.kernel.netlink import NLM_F_DUMP, NLMSG_ERROR, Answer, Message, answer, messages, send
from appliance.kernel.rtnetlink import RTM_GETROUTE, Run, Shape, ask_ack, dump_routes, pack_routes, unpack_routes
from appliance.model.errors import KernelError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence

C = TypeVar("C")

#: Messages of one send: more gain nothing, and all their errors fit the receive buffer.
BATCH: Final = 1000
_RECEIVE: Final = 1 << 16
#: Sequence numbers of packed routes; those that `netlink` gives have the highest bit clear.
_FIRST: Final = 1 << 31


def dump(link: socket.socket, version: int, proto: int) -> Iterator[Run]:
    """Yield the routes of one protocol in table main; KernelError EINTR at the end if the dump may be incomplete."""
    sequence = send(link, [Message(RTM_GETROUTE, dump_routes(version, proto), NLM_F_DUMP)])
    interrupted = False
    while True:
        for run in unpack_routes(link.recv(_RECEIVE), sequence):
            interrupted |= run.interrupted
            if isinstance(run, Run):
                yield run
            elif run.errno or interrupted:
                raise KernelError("route", "dump", run.errno or errno.EINTR)
            else:
                return


class Batch(Generic[C]):
    """Changes on their way to the kernel; `refused` are those that it did not take, with its answers."""

    _sequence = _FIRST

    def __init__(self, link: socket.socket) -> None:
        """Use a socket on which nothing else is under way."""
        self._link = link
        self._packed: list[bytes] = []
        self._waiting: list[C] = []
        self.refused: list[tuple[C, Answer]] = []

    def add(self, kind: int, flags: int, shape: Shape, changes: Sequence[C], addresses: Sequence[int]) -> None:
        """Have a message of one shape for each address; `changes` are what they carry out, in the same order."""
        start = 0
        while start < len(changes):
            end = start + BATCH - len(self._waiting)
            first = self._start() + len(self._waiting)
            self._packed.append(pack_routes(kind, flags, shape, addresses[start:end], first))
            self._waiting += changes[start:end]
            start = end
            if len(self._waiting) >= BATCH:
                self.flush()

    def flush(self) -> None:
        """Send what waits, and hear how it went."""
        if not self._waiting:
            return
        first, last = self._start(), self._start() + len(self._waiting) - 1
        self._packed[-1] = ask_ack(self._packed[-1])
        self._link.sendall(b"".join(self._packed))
        Batch._sequence = last + 1
        waiting, self._waiting, self._packed = self._waiting, [], []
        done = False
        while not done:
            for kind, flags, sequence, payload in messages(self._link.recv(_RECEIVE)):
                if kind != NLMSG_ERROR or not first <= sequence <= last:
                    continue
                done |= sequence == last
                said = answer(flags, payload)
                if said.errno:
                    self.refused.append((waiting[sequence - first], said))

    @staticmethod
    def _start() -> int:
        """Return the sequence number of the first message of this send; a send never crosses the end of 32 bits."""
        if Batch._sequence + BATCH >= 1 << 32:
            Batch._sequence = _FIRST
        return Batch._sequence
