"""Networks and attributes as neighbours say them, and what a route server answers as values that a person reads.

For the tests of `routing.bgp` that work on octets: what they are about is which route goes where, not how it is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from routing.bgp.attributes import decode, encode
from routing.bgp.audiences import Send
from routing.bgp.hot import announce, end_of_rib, split, withdraw
from routing.bgp.nlri import pack, unpack
from routing.bgp.routeserver import Bests, Converged, EndOfRib, Output, taught_by
from routing.bgp.values import Address, Attributes, Family, Network

Message = tuple[Any, ...]
CODES = {family: family.value[0] << 8 | family.value[1] for family in Family}
LIMIT = 4096
#: RFC 7606 7.4: MULTI_EXIT_DISC of another length than four is malformed, and the routes are treated as withdrawn.
SPOILT = bytes.fromhex("8004030000aa")
_decode = lru_cache(maxsize=4096)(decode)


def family_of(prefixes: Iterable[Network]) -> Family:
    """Return the family of prefixes of one family."""
    (family,) = {Family.of(prefix) for prefix in prefixes}
    return family


def messages(data: bytes) -> list[Message]:
    """Return messages as a session's reader has them."""
    found, consumed, fault = split(data, LIMIT)
    assert (consumed, fault) == (len(data), None)
    return found


def announcement(attributes: Attributes, prefixes: Iterable[Network], more: bytes = b"") -> list[Message]:
    """Say that prefixes are reachable; `more` attributes stand at the end as octets."""
    prefixes = list(prefixes)
    return messages(announce(encode(attributes, family_of(prefixes)) + more, pack(prefixes), LIMIT))


def withdrawal(prefixes: Iterable[Network]) -> list[Message]:
    """Say that prefixes are not reachable."""
    prefixes = list(prefixes)
    return messages(withdraw(CODES[family_of(prefixes)], pack(prefixes), LIMIT))


def end(family: Family) -> list[Message]:
    """Say End-of-RIB."""
    return messages(end_of_rib(CODES[family]))


class Told(NamedTuple):
    """A Send without octets."""

    addresses: tuple[Address, ...]
    attributes: Attributes | None
    prefixes: tuple[Network, ...]


def told(outputs: Iterable[Output | Send]) -> list[Told]:
    """Return what neighbours are told, in order."""
    sends = [send for output in outputs for send in _sends(output)]
    return [
        Told(
            tuple(peer.address for peer in send.to if peer not in send.but),
            None if send.octets is None else _decode(send.octets),
            tuple(unpack(send.nlri, send.family)),
        )
        for send in sends
    ]


def _sends(output: Output | Send) -> Iterable[Send]:
    if isinstance(output, Send):
        return [output]
    return output if isinstance(output, list) else []


class Ears:
    """What neighbours know who take in all that they are told, and who insist on hearing nothing for nothing."""

    def __init__(self) -> None:
        """Nobody listens."""
        self.tables: dict[Address, dict[Network, Attributes]] = {}
        self.ended: dict[Address, set[Family]] = {}
        self.best: dict[Network, tuple[Attributes, str]] = {}
        self.converged = 0

    def open(self, address: Address) -> None:
        """Let a neighbour listen, who knows nothing."""
        self.tables[address], self.ended[address] = {}, set()

    def close(self, address: Address) -> None:
        """Let a neighbour listen no longer."""
        self.tables.pop(address, None)

    def take(self, outputs: Iterable[Output], *, repeated: bool = False) -> None:
        """Take in what is said; `repeated`: they asked for what they know already."""
        for output in outputs:
            if isinstance(output, list):
                self._listen(told(output), repeated=repeated)
            elif isinstance(output, EndOfRib):
                self.ended.setdefault(output.address, set()).update(output.families)
            elif isinstance(output, Converged):
                self.converged += 1
            elif isinstance(output, Bests):
                self._news(output)

    def _listen(self, said: list[Told], *, repeated: bool) -> None:
        heard: set[tuple[Address, Network]] = set()
        for addresses, attributes, prefixes in said:
            for address in addresses:
                for prefix in prefixes:
                    assert (address, prefix) not in heard, "twice in one list, whose order is free"
                    heard.add((address, prefix))
                    if address in self.tables:
                        self._hear(address, attributes, prefix, repeated=repeated)

    def _hear(
        self, address: Address, attributes: Attributes | None, prefix: Network, *, repeated: bool = False
    ) -> None:
        table = self.tables[address]
        if attributes is None:
            assert table.pop(prefix, None) is not None, f"{prefix} withdrawn from {address} but never announced"
            return
        assert repeated or table.get(prefix) != attributes, f"{prefix} announced to {address} twice"
        table[prefix] = attributes

    def _news(self, news: Bests) -> None:
        for prefix in unpack(news.nlri, news.family):
            if news.path is None:
                assert self.best.pop(prefix, None) is not None, "no news"
                continue
            found = news.path.attributes, taught_by(news.path)
            assert self.best.get(prefix) != found, "no news"
            self.best[prefix] = found
