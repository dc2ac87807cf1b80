"""What neighbours are to be told as octets, written once for all who are told the same.

Called by `routing.engines.native.core`. Pure. The messages of one audience are one buffer; a member that must not see some of
them (its own routes) gets the buffer in slices. So a batch costs a member a few references, however many messages it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from routing.bgp.attributes import downgrade
from routing.bgp.audiences import Send
from routing.bgp.hot import announce, withdraw
from routing.bgp.peers import Peer
from routing.bgp.values import Family

CODES = {family: family.value[0] << 8 | family.value[1] for family in Family}
Buffer = bytes | memoryview


class Stream:
    """The messages for some neighbours, one after another, and which of them are not for whom."""

    __slots__ = ("_chunks", "_to")

    def __init__(self, to: tuple[Peer, ...]) -> None:
        """Begin with nothing."""
        self._to = to
        self._chunks: list[tuple[bytes, tuple[Peer, ...]]] = []

    def add(self, chunk: bytes, but: tuple[Peer, ...]) -> None:
        """Append messages for all but some."""
        self._chunks.append((chunk, but))

    def parts(self) -> Iterator[tuple[Peer, Buffer]]:
        """Yield each neighbour's buffers in order."""
        if len(self._to) == 1:
            # Messages may be shared with other audiences; put together for one neighbour alone they would not be.
            (peer,) = self._to
            yield from ((peer, chunk) for chunk, but in self._chunks if not but)
            return
        whole = b"".join([chunk for chunk, _ in self._chunks])
        view, found = memoryview(whole), self._holes()
        for peer in self._to:
            holes = found.get(peer)
            if holes is None:
                yield peer, whole
                continue
            # What lies between the holes, and before the first and behind the last.
            edges = [0, *holes, len(whole)]
            for start, end in zip(edges[::2], edges[1::2], strict=True):
                if start < end:
                    yield peer, view[start:end]

    def _holes(self) -> dict[Peer, list[int]]:
        found: dict[Peer, list[int]] = {}
        start = 0
        for chunk, but in self._chunks:
            end = start + len(chunk)
            for peer in but:
                holes = found.setdefault(peer, [])
                if holes and holes[-1] == start:
                    holes[-1] = end
                else:
                    holes += (start, end)
            start = end
        return found


def parts(sends: Iterable[Send]) -> Iterator[tuple[Peer, Buffer]]:
    """Write messages and yield whom each buffer is for; a neighbour's own come in order.

    Of these sends each prefix is in one at most for each neighbour, so streams may come one after another.
    """
    streams: dict[int, Stream] = {}
    last: Send | None = None
    chunk = b""
    for send in _together(sends):
        # What several audiences are told of one change comes in a row, and the same is mostly one object.
        if (
            last is None
            or send.nlri is not last.nlri
            # The default routes of both families are one octet, the same.
            or send.family is not last.family
            or send.octets is not last.octets
            or send.format is not last.format
        ):
            chunk = _write(send)
        last = send
        stream = streams.get(id(send.to))
        if stream is None:
            stream = streams[id(send.to)] = Stream(send.to)
        stream.add(chunk, send.but)
    for stream in streams.values():
        yield from stream.parts()


def _together(sends: Iterable[Send]) -> Iterator[Send]:
    """Let withdrawals that concern the same neighbours be one: whatever the prefixes had, now they have nothing."""
    gone: dict[tuple[int, tuple[Peer, ...], Family], list[Send]] = {}
    for send in sends:
        if send.octets is not None:
            yield send
        else:
            gone.setdefault((id(send.to), send.but, send.family), []).append(send)
    for alike in gone.values():
        first = alike[0]
        yield first if len(alike) == 1 else first._replace(nlri=b"".join([send.nlri for send in alike]))


def _write(send: Send) -> bytes:
    octets, limit = send.octets, send.format.limit
    if octets is not None:
        if not send.format.four_octet:
            octets = _downgraded(octets)
        try:
            return announce(octets, send.nlri, limit)
        except ValueError:
            # RFC 8654 4: what does not fit into a message that this neighbour takes is not for it.
            pass
    return withdraw(CODES[send.family], send.nlri, limit)


#: What several audiences are told of one path comes in a row, or nearly.
_downgraded = lru_cache(maxsize=16)(downgrade)
