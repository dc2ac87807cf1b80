"""Routes through a socket: dumps of them, and packed batches of which only the last message is acknowledged.

The kernel works a batch off in order and answers errors also where no acknowledgement was asked for, so the answer to
the last message says that all before it are done, and sequence numbers lead each error back to its change. Called by
`routetable`; the bytes are made and read by `rtnetlink`.
"""

from __future__ import annotations

import errno
from array import array
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from appliance.kernel.netlink import NLM_F_DUMP, NLMSG_ERROR, Answer, Message, answer, messages, send
from appliance.kernel.rtnetlink import (
    BITS,
    RTM_GETROUTE,
    Run,
    Shape,
    ask_ack,
    dump_routes,
    pack_routes,
    unpack_routes,
)
from appliance.model.errors import KernelError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Iterator, Sequence

C = TypeVar("C")

#: Messages of one send: more gain nothing, and all their errors fit the receive buffer.
BATCH: Final = 1000
_RECEIVE: Final = 1 << 16
#: Sequence numbers of packed routes; those that `netlink` gives have the highest bit clear.
_FIRST: Final = 1 << 31
#: The numbers 0 to 15 with their bits reversed: where to begin with every sixteenth.
_SCATTERED: Final = (0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15)


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


def scattered(ordered: Sequence[int]) -> array[int]:
    """Put the destinations of a large batch into an order in which the kernel's IPv4 trie is quick.

    Where neighbours come or go one after the other it resizes the same nodes again and again, and waits for all CPUs now
    and then before it frees them: 200,000 routes take 1.5 times as long to add, and three times as long to delete.
    """
    column = array("I", ordered)
    return array("I", b"".join([column[first :: len(_SCATTERED)].tobytes() for first in _SCATTERED]))


class Batch(Generic[C]):
    """Changes on their way to the kernel; `refused` are those that it did not take, with its answers."""

    _sequence = _FIRST

    def __init__(self, link: socket.socket) -> None:
        """Use a socket on which nothing else is under way."""
        self._link = link
        self._packed: list[bytearray] = []
        #: What each message that waits carries out: changes, and which of them.
        self._waiting: list[tuple[Sequence[C], Sequence[int]]] = []
        self._count = 0
        self.refused: list[tuple[C, Answer]] = []

    def add(self, kind: int, flags: int, shape: Shape, changes: Sequence[C], addresses: bytes | bytearray) -> None:
        """Have a message of one shape for each address; `changes` are what they carry out, in the same order."""
        places: Sequence[int] = range(len(changes))
        if shape.version == 4 and len(changes) > BATCH:  # noqa: PLR2004 - the IP version; IPv6 likes order
            places, addresses = scattered(places), scattered(array("I", addresses)).tobytes()
        size = BITS[shape.version] // 8
        start = 0
        while start < len(changes):
            end = start + BATCH - self._count
            octets = addresses[start * size : end * size]
            self._packed.append(pack_routes(kind, flags, shape, octets, self._start() + self._count))
            self._waiting.append((changes, places[start:end]))
            self._count += len(octets) // size
            start = end
            if self._count >= BATCH:
                self.flush()

    def flush(self) -> None:
        """Send what waits, and hear how it went."""
        if not self._waiting:
            return
        first, last = self._start(), self._start() + self._count - 1
        ask_ack(self._packed[-1])
        self._link.sendmsg(self._packed)
        Batch._sequence = last + 1
        waiting, self._waiting, self._packed, self._count = self._waiting, [], [], 0
        done = False
        while not done:
            for kind, flags, sequence, payload in messages(self._link.recv(_RECEIVE)):
                if kind != NLMSG_ERROR or not first <= sequence <= last:
                    continue
                done |= sequence == last
                said = answer(flags, payload)
                if said.errno:
                    self.refused.append((_carried(waiting, sequence - first), said))

    @staticmethod
    def _start() -> int:
        """Return the sequence number of the first message of this send; a send never crosses the end of 32 bits."""
        if Batch._sequence + BATCH >= 1 << 32:
            Batch._sequence = _FIRST
        return Batch._sequence


def _carried(waiting: Iterable[tuple[Sequence[C], Sequence[int]]], number: int) -> C:
    """Return the change that a message carried out."""
    for changes, places in waiting:
        if number < len(places):
            return changes[places[number]]
        number -= len(places)
    raise IndexError(number)
