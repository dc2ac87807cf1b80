"""Random walks of a route server: sessions, messages, policies and slow readers, held at every step to what is right.

`EDGEWAY_STEPS` and `EDGEWAY_SEED` as in `tests.packet.test_flow_model`. Right is what `naive_rs` works out. A walk changes a
speaker step by step while everything else goes on, and lets neighbours fall behind and catch up again.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from routing.bgp.attributes import decode, downgrade, encode
from routing.bgp.hot import announce
from routing.bgp.intake import Intake
from routing.bgp.nlri import pack, unpack
from routing.bgp.routeserver import EndOfRib, RouteServer
from routing.bgp.session import Established
from routing.bgp.update import Format
from routing.bgp.values import Address, Attributes, Family, Mode, Network, Reason
from tests.support.casting import DYNAMIC, FIXED, US, Cast
from tests.support.naive_rs import NaiveRouteServer
from tests.support.speaking import LIMIT, SPOILT, Ears, Message, end, messages, told, withdrawal


class Walk:
    """One walk from a seed."""

    def __init__(self, seed: int, mode: Mode) -> None:
        """Start a speaker."""
        self.dice = random.Random(seed)
        self.cast = Cast(self.dice, mode)
        self.now = 1000.0
        self.done: Counter[str] = Counter()
        self.told: deque[str] = deque(maxlen=40)
        speaker = self.cast.speaker()
        self.server = RouteServer(speaker, self.now, awaited=self.dice.sample(FIXED, 2))
        self.server.watched = True
        self.naive = NaiveRouteServer(speaker)
        self.ears = Ears()
        self.intakes: dict[Address, Intake] = {}
        self.formats: dict[Address, Format] = {}
        self.behind: set[Address] = set()
        self.asking: set[Address] = set()
        self.steps: Iterator[None] | None = None
        for _ in range(10):
            self._up()

    def _speaking(self) -> Address | None:
        """Choose one whose session is up for everybody."""
        return self._one_of(address for address in self.intakes if self._known(address))

    def _known(self, address: Address) -> bool:
        """Tell whether it is up for everybody, and not only until a new configuration comes to it."""
        client = self.naive.clients.get(address)
        return client is not None and client.session is not None

    def _one_of(self, addresses: Iterable[Address]) -> Address | None:
        found = sorted(addresses)
        return self.dice.choice(found) if found else None

    # -- what happens

    def run(self, steps: int) -> None:
        """Walk, and look whether all is as it should be."""
        ways: list[tuple[Callable[[], str | None], int]] = [
            (self._up, 10),
            (self._down, 3),
            (self._restart, 3),
            (self._announce, 30),
            (self._withdraw, 10),
            (self._malformed, 2),
            (self._end, 3),
            (self._refresh, 2),
            (self._fall_behind, 4),
            (self._catch_up, 4),
            (self._wait, 2),
            (self._configure, 5),
            (self._step, 12),
            (self._linger, 5),
            (self._look, 15),
        ]
        each, weights = [way for way, _ in ways], [weight for _, weight in ways]
        for _ in range(steps):
            (way,) = self.dice.choices(each, weights)
            said = way()
            if said is not None:
                self.done[way.__name__.strip("_")] += 1
                self.told.append(said)
        self._finish()
        for address in list(self.behind):
            self._listen()
            self._catches_up(address)
        self._look()

    def _up(self) -> str | None:
        address = self.dice.choice([*FIXED, *DYNAMIC])
        if self.naive.neighbor_at(address) is None or (address in self.intakes and self.cast.mostly()):
            return None
        if address in self.intakes and self.steps is not None:
            # What a step says may still be for the session before.
            return None
        return self._establish(address)

    def _establish(self, address: Address) -> str:
        self._listen()
        session = self.cast.session(address)
        self._start(address, session, four_octet=self.cast.mostly())
        return f"{self.now} up {address} {session}"

    def _start(self, address: Address, session: Established, *, four_octet: bool) -> None:
        self.ears.open(address)
        self.naive.session_up(address, session, self.now)
        format_ = Format(
            session.families,
            self.naive.clients[address].internal,
            four_octet=four_octet,
            extended_next_hop=session.extended_next_hop,
        )
        assert self.server.session_up(address, session, format_, self.now)
        self.behind.discard(address)
        self.asking.discard(address)
        self.formats[address] = format_
        self.intakes[address] = Intake(self.server, self.server.peers[address], format_)

    def _down(self) -> str | None:
        address = self._speaking()
        if address is None:
            return None
        graceful = self.dice.random() < 0.7
        self._end_session(address, graceful=graceful)
        return f"{self.now} down {address} graceful={graceful}"

    def _restart(self) -> str | None:
        address = self._speaking()
        if address is None:
            return None
        self._end_session(address, graceful=True)
        self.now += 1
        return f"restarted: {self._establish(address)}"

    def _end_session(self, address: Address, *, graceful: bool) -> None:
        self._listen()
        self.server.session_down(address, self.now, graceful=graceful)
        self._listen()
        self._gone(address)
        self.naive.session_down(address, self.now, graceful=graceful)

    def _gone(self, address: Address) -> None:
        self.ears.close(address)
        self.behind.discard(address)
        self.intakes.pop(address, None)

    def _say(self, address: Address, said: list[Message]) -> None:
        self.intakes[address].take(said, self.now)

    def _written(
        self, address: Address, attributes: Attributes, prefixes: list[Network], more: bytes = b""
    ) -> list[Message]:
        octets = encode(attributes, Family.of(prefixes[0])) + more
        if not self.formats[address].four_octet:
            octets = downgrade(octets)
        return messages(announce(octets, pack(prefixes), LIMIT))

    def _attributes(self, address: Address, family: Family) -> Attributes:
        extended = self.formats[address].extended_next_hop
        return self.cast.attributes(address, self.naive.clients[address].neighbor.asn, family, extended=extended)

    def _subject(self) -> tuple[Address, Family, list[Network]] | None:
        address = self._speaking()
        if address is None:
            return None
        family = self.dice.choice(sorted(self.formats[address].families, key=str))
        return address, family, self.cast.some(family)

    def _announce(self) -> str | None:
        subject = self._subject()
        if subject is None:
            return None
        address, family, prefixes = subject
        attributes = self._attributes(address, family)
        self._say(address, self._written(address, attributes, prefixes))
        self.naive.announce(address, attributes, prefixes)
        return f"{address} announces {prefixes} {attributes}"

    def _malformed(self) -> str | None:
        subject = self._subject()
        if subject is None:
            return None
        address, family, prefixes = subject
        attributes = replace(self._attributes(address, family), med=None)
        self._say(address, self._written(address, attributes, prefixes, SPOILT))
        self.naive.malformed(address, prefixes)
        return f"{address} announces badly {prefixes}"

    def _withdraw(self) -> str | None:
        subject = self._subject()
        if subject is None:
            return None
        address, _, prefixes = subject
        self._say(address, withdrawal(prefixes))
        self.naive.withdraw(address, prefixes)
        return f"{address} withdraws {prefixes}"

    def _end(self) -> str | None:
        subject = self._subject()
        if subject is None:
            return None
        address, family, _ = subject
        self._say(address, end(family))
        self.naive.end_of_rib(address, family)
        return f"{address} ends {family}"

    def _refresh(self) -> str | None:
        subject = self._subject()
        if subject is None:
            return None
        address, family, _ = subject
        self._listen()
        for _ in range(self.dice.choice((1, 1, 3))):
            self.server.refresh(address, family)
        outputs = self.server.take()
        if address in self.behind:
            self.asking.add(address)
            self.ears.take(outputs)
        else:
            self.ears.take(outputs, repeated=True)
            again = [prefix for _, said, prefixes in told(outputs) if said is not None for prefix in prefixes]
            assert set(again) == {prefix for prefix in self.ears.tables[address] if Family.of(prefix) is family}
            assert len(again) == len(set(again)), "once is enough"
        return f"{address} refreshes {family}"

    def _fall_behind(self) -> str | None:
        address = self._speaking()
        if address is None:
            return None
        self._listen()
        self.server.fall_behind(address)
        self.behind.add(address)
        return f"{address} falls behind"

    def _catch_up(self) -> str | None:
        if not self.behind:
            return None
        address = self.dice.choice(sorted(self.behind))
        if self.dice.random() < 0.7:
            self._listen()
        self._catches_up(address)
        return f"{address} catches up"

    def _catches_up(self, address: Address) -> None:
        self.server.catch_up(address)
        self.behind.discard(address)
        self.ears.take(self.server.take(), repeated=address in self.asking)
        self.asking.discard(address)

    def _wait(self) -> str:
        self.now += self.dice.choice((1, 5, 40, 100))
        self.server.tick(self.now)
        self.naive.tick(self.now)
        return f"{self.now}"

    def _configure(self) -> str | None:
        self._finish()
        self.cast.change()
        speaker = self.cast.speaker()
        self._listen()
        self.naive.configure(speaker)
        self.steps = self.server.configure(speaker, self.now)
        self._step()
        return f"configure {speaker.neighbors} {speaker.announcements}"

    def _linger(self) -> str | None:
        """Let one say something still that the new configuration does not know."""
        address = self._one_of(address for address in self.intakes if not self._known(address))
        if address is None:
            return None
        family = self.dice.choice(sorted(self.formats[address].families, key=str))
        attributes = self.cast.attributes(address, US, family, extended=False)
        self._say(address, self._written(address, attributes, self.cast.some(family)))
        return f"{address} lingers"

    def _step(self) -> str | None:
        if self.steps is None:
            return None
        more = next(self.steps, self) is None
        if not more:
            self.steps = None
            self._listen()
            for address in [address for address in self.intakes if self.server.session(address) is None]:
                self._gone(address)
        return "a step" if more else "configured"

    def _finish(self) -> None:
        while self.steps is not None:
            self._step()

    # -- whether it is right

    def _listen(self) -> None:
        outputs = self.server.take()
        self.ears.take(outputs)
        ended = {output.address for output in outputs if isinstance(output, EndOfRib)}
        assert not ended & self.behind, "End-of-RIB before the end"

    def _look(self) -> str | None:
        self._listen()
        for address, table in self.ears.tables.items():
            peer = self.server.peers.get(address)
            if peer is not None and self.server.session(address) is not None:
                assert self.server.audiences.advertised(peer) == len(table), f"the count of {address}"
        assert self._unnamed(self.ears.best) == self._unnamed(self._bests())
        if self.steps is not None:
            return None
        self._compare()
        return "look"

    def _bests(self) -> dict[Network, tuple[Attributes, str]]:
        return {
            prefix: (path.attributes, "local" if path.source is None else path.source.neighbor.name)
            for family, nlri, path in self.server.bests()
            if path is not None
            for prefix in unpack(nlri, family)
        }

    @staticmethod
    def _unnamed(bests: dict[Network, tuple[Attributes, str]]) -> dict[Network, tuple[Attributes, str]]:
        # Whom of another range an address is now is no news.
        return {prefix: (said, name if name[0] in "nl" else "") for prefix, (said, name) in bests.items()}

    def _compare(self) -> None:
        server, naive = self.server, self.naive
        up = {address for address, client in naive.clients.items() if client.session is not None}
        assert set(server.established()) == up == set(self.intakes)
        assert self.ears.converged == server.converged
        said: dict[Address, dict[Network, Any]] = {}
        naive.over = set()
        for address, peer in server.peers.items():
            said[address] = {p: path for family, path, nlri in server.tables.said(peer) for p in unpack(nlri, family)}
            naive.over |= {(address, p) for p, path in said[address].items() if path.reason is Reason.MAX_PREFIXES}
        for address, client in naive.clients.items():
            reasons = naive.reasons(address)
            assert (address in server.peers) == bool(client.session or reasons), f"{address} is known"
            paths = said.get(address, {})
            assert {p: path.reason for p, path in paths.items()} == reasons, f"verdicts on {address}"
            if address not in server.peers:
                continue
            accepted = sum(reason is None for reason in reasons.values())
            over = sum(reason is Reason.MAX_PREFIXES for reason in reasons.values())
            peer = server.peers[address]
            assert (peer.received, peer.accepted, peer.waiting) == (len(reasons), accepted, over), (
                f"counts of {address}"
            )
            limit = client.neighbor.imports.max_prefixes
            assert limit is None or accepted == min(limit, accepted + over), f"the limit of {address}"
            for prefix, path in paths.items():
                route = naive.said[address, prefix]
                assert path.stale == route.stale, f"{prefix} of {address} is stale"
                assert route.malformed or decode(path.octets) == route.attributes
        sent = naive.sent()
        for address in up - self.behind:
            assert self.ears.tables[address] == sent[address], f"what {address} was sent"
            families = self.formats[address].families if server.converged else set()
            assert self.ears.ended[address] == families, f"End-of-RIB to {address}"
