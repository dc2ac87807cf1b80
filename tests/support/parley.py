"""The core of the native engine without sockets: neighbours that speak to it in octets, and what they hear.

A connection is a number, as in the core; whoever calls says what comes over it and when. What a neighbour hears is read by
the codecs, which must find nothing wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from typing import Any

from routing.bgp.attributes import decode, encode
from routing.bgp.hot import announce, end_of_rib, split, withdraw
from routing.bgp.messages import (
    KEEPALIVE_MESSAGE,
    NOTIFICATION,
    OPEN,
    SHORT_LIMIT,
    UPDATE,
    Notify,
    Open,
    Restart,
    decode_notification,
    decode_open,
    encode_open,
)
from routing.bgp.negotiation import LONG_LIMIT, agree
from routing.bgp.nlri import pack, unpack
from routing.bgp.update import read
from routing.bgp.values import Address, Attributes, ExportPolicy, Family, ImportPolicy, Neighbor, Network, Speaker
from routing.engines.native.core import Action, Core, Dial, Hang, Trust, Write
from routing.engines.native.outbox import CODES, Buffer
from routing.engines.views import News
from tests.support import fake_core
from tests.support.fake_core import ANY, HERE, at, speaker

BOTH = frozenset(Family)
HELPED = Restart(120, families=tuple((family, True) for family in Family))

RANGE = Neighbor(
    "hosts", 65050, range=ip_network("10.66.0.0/16"), imports=ImportPolicy(ANY), exports=ExportPolicy(ANY), passive=True
)


def neighbor(number: int, **more: Any) -> Neighbor:
    """Make the n-th neighbour, who connects."""
    return fake_core.neighbor(number, **{"passive": True, **more})


def said_by(number: int, **more: Any) -> Open:
    """Return the OPEN of the n-th neighbour: all that there is, but for graceful restart."""
    offered = Open(65000 + number, 90, at(number), BOTH, four_octet=True, refresh=True, extended_message=True)
    return replace(offered, **more)


def announcement(attributes: Attributes, prefixes: Iterable[Network], limit: int = SHORT_LIMIT) -> bytes:
    """Write UPDATEs that announce prefixes of one family."""
    prefixes = list(prefixes)
    return announce(encode(attributes, Family.of(prefixes[0])), pack(prefixes), limit)


def withdrawal(prefixes: Iterable[Network]) -> bytes:
    """Write UPDATEs that withdraw prefixes of one family."""
    prefixes = list(prefixes)
    return withdraw(CODES[Family.of(prefixes[0])], pack(prefixes), SHORT_LIMIT)


def ends(*families: Family) -> bytes:
    """Write End-of-RIB of families."""
    return b"".join(end_of_rib(CODES[family]) for family in families or Family)


class Ear:
    """The other end of a connection: what was written to it, and what that says to a neighbour that said `said`."""

    def __init__(self, said: Open) -> None:
        self.said = said
        self.buffers: list[Buffer] = []
        self.open = self.trusted = False
        self.kinds: list[int] = []
        self.theirs: Open | None = None
        self.notified: list[Notify] = []
        self.told: list[tuple[Network, Attributes | None]] = []
        self.ended: list[Family] = []

    @property
    def table(self) -> dict[Network, Attributes]:
        """Return what it knows by all that it was told."""
        return {prefix: said for prefix, said in dict(self.told).items() if said is not None}

    def hear(self, data: Buffer) -> None:
        """Take in whole messages, none longer than was agreed on."""
        self.buffers.append(data)
        found, consumed, fault = split(bytes(data), LONG_LIMIT if self.said.extended_message else SHORT_LIMIT)
        assert (consumed, fault) == (len(data), None)
        for message in found:
            self._read(message)

    def _read(self, message: tuple[Any, ...]) -> None:
        self.kinds.append(message[0])
        if message[0] == OPEN:
            self.theirs = decode_open(message[1])
        elif message[0] == NOTIFICATION:
            self.notified.append(decode_notification(message[1]))
        elif message[0] == UPDATE:
            self._update(*message[1:])

    def _update(self, withdrawn: bytes, attributes: bytes, nlri: bytes) -> None:
        assert self.theirs is not None
        agreed = agree(self.said, self.theirs, self.theirs.asn, HERE).format
        update = read(withdrawn, attributes, nlri, agreed)
        assert not update.malformed
        assert not update.detail
        for family, prefixes in update.withdrawn:
            self.told += [(prefix, None) for prefix in unpack(prefixes, family)]
        for family, octets, prefixes in update.announced:
            self.told += [(prefix, decode(octets)) for prefix in unpack(prefixes, family)]
        if update.end_of_rib is not None:
            self.ended.append(update.end_of_rib)


class Parley:
    """A core, and whoever speaks with it. `now` is the time of what happens next."""

    def __init__(self, wanted: Speaker, awaited: Iterable[Address] = ()) -> None:
        self.now = 0.0
        self.core = Core(wanted, self.now, awaited)
        self.ears: dict[int, Ear] = {}
        self.dialled: list[Dial] = []
        self.hung: list[int] = []
        self.news: list[News] = []
        self._number = 0
        self.settle()

    def connect(self, number: int, *, address: Address | None = None, **more: Any) -> int | None:
        """Let the n-th neighbour connect, who will say such an OPEN; return the connection if it is let in."""
        connection = self._numbered(said_by(number, **more))
        if not self.core.accepted(connection, address or at(number), HERE, self.now):
            return None
        self.ears[connection].open = True
        self.settle()
        return connection

    def answer(self, number: int, **more: Any) -> int | None:
        """Let the n-th neighbour take the connection that was dialled."""
        connection = self._numbered(said_by(number, **more))
        if not self.core.connected(connection, at(number), HERE, self.now):
            return None
        self.ears[connection].open = True
        self.settle()
        return connection

    def greet(self, connection: int | None) -> int:
        """Let a neighbour say its OPEN and KEEPALIVE."""
        assert connection is not None
        self.say(connection, encode_open(self.ears[connection].said), KEEPALIVE_MESSAGE)
        return connection

    def up(self, number: int, *, address: Address | None = None, **more: Any) -> int:
        """Bring a session up over a connection of the neighbour's."""
        return self.greet(self.connect(number, address=address, **more))

    def say(self, connection: int, *data: bytes) -> None:
        """Let octets come over a connection."""
        self.put(connection, *data)
        self.settle()

    def put(self, connection: int, *data: bytes) -> None:
        """Let octets come, before the turn is over."""
        self.core.received(connection, b"".join(data), self.now)

    def lose(self, connection: int) -> None:
        """Let a connection break."""
        self.ears[connection].open = False
        self.core.disconnected(connection, self.now)
        self.settle()

    def settle(self) -> list[Action]:
        """Do what the core wants done."""
        done: list[Action] = []
        while actions := self.core.settle():
            done += actions
            for action in actions:
                self._do(action)
        self.news += self.core.take_events()
        return done

    def _do(self, action: Action) -> None:
        match action:
            case Dial():
                self.dialled.append(action)
            case Write():
                if self.ears[action.connection].open:
                    self.ears[action.connection].hear(action.data)
            case Hang():
                self.ears[action.connection].open = False
                self.hung.append(action.connection)
            case Trust():
                self.ears[action.connection].trusted = True

    def wait(self, seconds: float) -> None:
        """Let time pass, as the loop does: tick when something is due."""
        end = self.now + seconds
        while (due := self.core.deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.core.tick(self.now)
            self.settle()
        self.now = end

    def become(self, wanted: Speaker) -> None:
        """Take in another speaker without a pause."""
        for _ in self.core.configure(wanted, self.now):
            self.settle()
        self.settle()

    def detail(self, number: int) -> str:
        """Return why there is no session with the n-th neighbour."""
        return self.core.peerings[at(number)].detail

    def _numbered(self, said: Open) -> int:
        self._number += 1
        self.ears[self._number] = Ear(said)
        return self._number


def parley(*numbers: int, **more: Any) -> Parley:
    """Make a route server with such neighbours, who are not here."""
    return Parley(speaker(*(neighbor(number, **more) for number in numbers)))


def host(number: int) -> IPv4Address:
    """Return the n-th address of the range 10.66.0.0/16."""
    return IPv4Address("10.66.0.0") + number
