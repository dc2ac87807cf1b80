"""Octets that are nearly right against sessions: one peering to which anything happens, and the whole engine without sockets.

Targets as those of `tests.support.fuzzing`; `tests.support.fuzzing_engine` runs them.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from random import Random
from typing import Any

from routing.bgp.hot import count, split
from routing.bgp.messages import (
    KEEPALIVE_MESSAGE,
    NOTIFICATION,
    OPEN,
    UPDATE,
    Notify,
    Open,
    Restart,
    decode_notification,
    decode_open,
    encode_notification,
    encode_open,
    encode_refresh,
    message,
)
from routing.bgp.negotiation import agree
from routing.bgp.peering import Close, Connect, Down, Moved, Peering, Transmit, Up
from routing.bgp.update import Format, read
from routing.bgp.values import Address, ExportPolicy, Family, ImportPolicy, Mode, Neighbor, PrefixRule, Speaker
from routing.engines.engine import SessionState
from routing.engines.native.core import Core, Dial, Hang, Write
from tests.support import fuzzing
from tests.support.fuzzing import LONGEST, some_format, some_update, spoiled, spoiled_attributes

US = 65000
HERE = IPv4Address("192.0.2.254")
BOTH = frozenset(Family)
EVERYTHING = (PrefixRule(IPv4Network("0.0.0.0/0"), 0, 32), PrefixRule(IPv6Network("::/0"), 0, 128))


# --- messages ---------------------------------------------------------------------------------------------------


def some_message(rng: Random, agreed: Format, ours: Open) -> bytes:
    """Make a message that a neighbour may send, or nearly so."""
    kind = rng.random()
    if kind < 0.7:
        whole = an_update(rng, agreed)
    elif kind < 0.8:
        whole = KEEPALIVE_MESSAGE
    elif kind < 0.87:
        whole = encode_refresh(rng.choice(list(Family)), rng.choice((0, 0, 1, 2, 9)))
    elif kind < 0.92:
        whole = encode_open(ours if rng.random() < 0.7 else fuzzing.some_open(rng))
    elif kind < 0.96:
        whole = encode_notification(Notify(rng.choice((2, 3, 6)), rng.randrange(11), rng.randbytes(3)))
    else:
        whole = message(rng.getrandbits(8), rng.randbytes(rng.choice((0, 4, 30))))
    return spoiled(rng, whole) if rng.random() < 0.05 else whole


def an_update(rng: Random, agreed: Format) -> bytes:
    """Make an UPDATE that is often right, and often not quite."""
    withdrawn, attributes, nlri = some_update(rng, agreed)
    fate = rng.random()
    if fate < 0.25:
        attributes = rng.choice((spoiled, spoiled_attributes))(rng, attributes)
    elif fate < 0.28:
        nlri = spoiled(rng, nlri)
    elif fate < 0.31:
        withdrawn = spoiled(rng, withdrawn)
    body = len(withdrawn).to_bytes(2, "big") + withdrawn + len(attributes).to_bytes(2, "big") + attributes + nlri
    return message(UPDATE, spoiled(rng, body) if rng.random() < 0.02 else body)


# --- sessions ---------------------------------------------------------------------------------------------------


def at(number: int) -> Address:
    """Return the address of the n-th neighbour."""
    return IPv4Address("192.0.2.0") + number


def neighbor(number: int, **more: Any) -> Neighbor:
    """Make the n-th neighbour, who may say and hear anything."""
    imports = ImportPolicy(EVERYTHING, refuse_as_set=False, max_path_length=1000)
    given = Neighbor(f"n{number}", US + number, at(number), families=tuple(Family), imports=imports)
    return replace(given, exports=ExportPolicy(EVERYTHING), **more)


def speaker(*neighbors: Neighbor) -> Speaker:
    """Make a route server."""
    return Speaker("s", Mode.TRANSPARENT, US, HERE, (HERE,), neighbors=neighbors)


def _theirs(rng: Random, number: int) -> Open:
    families = BOTH if rng.random() < 0.8 else frozenset({Family.IPV4})
    kept = tuple((family, rng.random() < 0.7) for family in families)
    return Open(
        asn=US + number,
        hold_time=rng.choice((0, 3, 90)),
        router_id=IPv4Address(number if rng.random() < 0.5 else 0xF0000000 + number),
        families=families,
        four_octet=rng.random() < 0.7,
        refresh=rng.random() < 0.7,
        extended_message=rng.random() < 0.5,
        extended_next_hop=rng.random() < 0.5,
        restart=Restart(9, rng.random() < 0.3, rng.random() < 0.5, kept) if rng.random() < 0.5 else None,
    )


class Line:
    """One connection as the owner of the sockets sees it, and what may be said over it."""

    def __init__(self, number: int, theirs: Open) -> None:
        """Begin before any OPEN."""
        self.number, self.theirs = number, theirs
        self.format: Format | None = None
        self.heard = bytearray()
        self.last = False

    def hear(self, data: bytes) -> None:
        """Check octets that go to the neighbour: whole messages, of which it can make something."""
        assert not self.last, "after a NOTIFICATION nothing is said"
        self.heard += data
        found, consumed, fault = split(bytes(self.heard), LONGEST if self.format is None else self.format.limit)
        assert (consumed, fault) == (len(self.heard), None)
        self.heard.clear()
        for one in found:
            self._message(*one)

    def _message(self, kind: int, *parts: bytes) -> None:
        if kind == OPEN:
            ours = decode_open(parts[0])
            agreed = fuzzing.tried(agree, self.theirs, ours, US, HERE)
            self.format = None if isinstance(agreed, Notify) else agreed.format
        elif kind == NOTIFICATION:
            said = decode_notification(parts[0])
            assert 1 <= said.code <= 8
            self.last = True
        elif kind == UPDATE:
            assert self.format is not None
            update = read(*parts, self.format)  # type: ignore[call-arg, arg-type] # three parts
            assert not update.malformed
            assert not update.detail, update.detail


def fuzz_peering(rng: Random) -> None:
    """Nothing is raised, what is wanted makes sense, and there is always something to wait for."""
    one = neighbor(1, passive=rng.random() < 0.4, hold_time=rng.choice((0, 3, 90)))
    walk = Walk(rng, Peering(at(1), one, speaker(one), 0.0, restarting=rng.random() < 0.2), one)
    for _ in range(rng.randrange(100)):
        walk.step()


class Walk:
    """A peering to which anything happens."""

    def __init__(self, rng: Random, peering: Peering, neighbor: Neighbor) -> None:
        """Begin before the start."""
        self.rng, self.peering, self.neighbor = rng, peering, neighbor
        self.now, self.number, self.started = 0.0, 0, False
        self.dialling = False
        self.lines: dict[int, Line] = {}
        self.session: int | None = None
        self.agreed = some_format(rng)
        self.state = peering.state

    def step(self) -> None:
        """Let something happen, and look."""
        rng, peering = self.rng, self.peering
        often = (self._accept, self._dialled, self._talk, self._talk, self._talk, self._wait, self._wait, self._open)
        rng.choice((self._start, self._join, *often, self._lose, self._rare) if self.started else (self._start,))()
        self.obey()
        due = peering.deadline()
        assert due is None or due > self.now - 1e-9 or self._tick()
        if due is None and self.started and peering.state is not SessionState.ESTABLISHED:
            # Nothing is timed: then it is the neighbour who must come, or connections without a hold time.
            assert self.neighbor.passive or self.lines or self.dialling

    def _tick(self) -> bool:
        self.peering.tick(self.now)
        self.obey()
        due = self.peering.deadline()
        assert due is None or due > self.now, "a deadline that does not go away"
        return True

    def _start(self) -> None:
        self.started = True
        self.peering.start(self.now)

    def _accept(self) -> None:
        self._add(outgoing=False)

    def _add(self, *, outgoing: bool) -> None:
        self.number += 1
        self.lines[self.number] = Line(self.number, _theirs(self.rng, 1))
        self.peering.connected(self.number, HERE, outgoing=outgoing, now=self.now)

    def _dialled(self) -> None:
        if not self.dialling:
            return
        self.dialling = False
        if self.rng.random() < 0.7:
            self._add(outgoing=True)
        else:
            self.peering.connect_failed(self.now, "refused")

    def _line(self) -> Line | None:
        return self.rng.choice(list(self.lines.values())) if self.lines else None

    def _open(self) -> None:
        line = self._line()
        if line is not None:
            more = KEEPALIVE_MESSAGE if self.rng.random() < 0.7 else b""
            self.peering.receive(line.number, encode_open(line.theirs) + more, self.now)

    def _join(self) -> None:
        self._accept()
        self.obey()
        self._open()

    def _talk(self) -> None:
        line = self._line()
        if line is not None:
            data = b"".join(some_message(self.rng, self.agreed, line.theirs) for _ in range(self.rng.choice((1, 1, 3))))
            at = self.rng.randrange(len(data) + 1)
            for part in (data[:at], data[at:]):
                self.peering.receive(line.number, part, self.now)

    def _wait(self) -> None:
        due = self.peering.deadline()
        if due is not None and self.rng.random() < 0.7:
            self.now = max(self.now, due)
        else:
            self.now += self.rng.choice((0.1, 1, 10, 500))
        self.peering.tick(self.now)

    def _lose(self) -> None:
        line = self._line()
        if line is not None:
            del self.lines[line.number]
            if self.session == line.number:
                self.session = -line.number
            self.peering.disconnected(line.number, self.now)

    def _rare(self) -> None:
        line, rng, kind = self._line(), self.rng, self.rng.randrange(6)
        if kind == 0:
            self.started = False
            self.peering.stop(rng.choice((2, 3, 4)), rng.choice(("", "bye")), self.now)
        elif kind == 1:
            self.neighbor = replace(self.neighbor, hold_time=rng.choice((0, 30)), restart_time=rng.choice((0, 9)))
            self.peering.reconfigure(self.neighbor, speaker(self.neighbor), self.now)
        elif kind == 2:
            self.peering.refresh(rng.choice(list(Family)))
        elif line is not None and kind == 3:
            self.peering.written(line.number, rng.choice((0, 100)), self.now, waiting=rng.random() < 0.5)
        elif line is not None and kind == 4:
            self.peering.fail(line.number, rng.choice((Notify(3, 1), Notify(6, 1))), self.now)
        else:
            self.peering.receive(rng.randrange(self.number + 2), KEEPALIVE_MESSAGE, self.now)

    def obey(self) -> None:
        """Do what is wanted."""
        for effect in self.peering.take():
            match effect:
                case Connect():
                    self.dialling = True
                case Transmit(connection, data):
                    self.lines[connection].hear(data)
                case Close(connection):
                    del self.lines[connection]
                case Up(connection):
                    assert self.session is None, "up twice"
                    assert connection in self.lines
                    self.session = connection
                case Down():
                    assert self.session is not None, "down twice"
                    self.session = None
                case Moved(state, _):
                    self.state = state
        assert self.state is self.peering.state
        assert (self.state is SessionState.ESTABLISHED) == (self.session is not None)


# --- the whole engine, without its sockets ----------------------------------------------------------------------


class House:
    """A core with neighbours of which some are well-behaved, all of them, or none."""

    def __init__(self, rng: Random) -> None:
        """Start it."""
        self.rng, self.now, self.number = rng, 0.0, 0
        self.neighbors = [neighbor(number, passive=True, hold_time=90) for number in (1, 2, 3)]
        self.core = Core(speaker(*self.neighbors), 0.0)
        self.core.watch(on=rng.random() < 0.5)
        self.lines: dict[int, tuple[Address, Line]] = {}
        self.good = self.join(3)

    def join(self, which: int) -> int:
        """Bring a session up; return its connection."""
        self.number += 1
        line = Line(self.number, _theirs(self.rng, which))
        self.lines[self.number] = at(which), line
        self.core.accepted(self.number, at(which), HERE, self.now)
        self.settle()
        if self.number in self.lines:
            self.core.received(self.number, encode_open(line.theirs) + KEEPALIVE_MESSAGE, self.now)
            self.settle()
        return self.number

    def settle(self) -> None:
        """Do what it wants."""
        while actions := self.core.settle():
            for action in actions:
                match action:
                    case Write(connection, data):
                        if connection in self.lines:
                            self.lines[connection][1].hear(bytes(data))
                    case Hang(connection):
                        self.lines.pop(connection, None)
                    case Dial():
                        raise AssertionError("all are passive")

    def step(self) -> None:
        """Let somebody bad say or do something."""
        rng, bad = self.rng, [number for number, (address, _) in self.lines.items() if address != at(3)]
        kind = rng.random()
        if not bad or kind < 0.1:
            self.join(rng.choice((1, 2)))
        elif kind < 0.15:
            gone = rng.choice(bad)
            del self.lines[gone]
            self.core.disconnected(gone, self.now)
        elif kind < 0.25:
            rng.choice((self.core.fall_behind, self.core.catch_up))(rng.choice(bad))
        elif kind < 0.3:
            self.now += rng.choice((1, 20))
            self.core.received(self.good, KEEPALIVE_MESSAGE, self.now)
            self.core.tick(self.now)
        else:
            line = self.lines[rng.choice(bad)][1]
            agreed = line.format or some_format(rng)
            self.core.received(line.number, an_update(rng, agreed) + rng.choice((b"", KEEPALIVE_MESSAGE)), self.now)


def fuzz_core(rng: Random) -> None:
    """What two neighbours spoil never ends the session of a third, and never reaches it."""
    house = House(rng)
    for _ in range(rng.randrange(30)):
        house.step()
        if rng.random() < 0.6:
            house.settle()
    house.settle()
    assert house.good in house.lines
    assert house.core.server.session(at(3)) is not None
    for peer in house.core.server.peers.values():
        said = list(house.core.server.tables.said(peer))
        assert peer.received == sum(count(nlri) for _, _, nlri in said)
