"""What hostile neighbours can do to our own engine: nothing to its process, nothing to the sessions and tables of others.

Two well-behaved neighbours, the witnesses, see the whole time what a third one makes of its routes; every case has a neighbour
of its own out of a range, so that none pays for what another did. RFC 7606 says what each error costs, RFC 4271 6 how it is said.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_network
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from routing.bgp.attributes import decode
from routing.bgp.messages import Open
from routing.bgp.nlri import pack
from routing.bgp.values import (
    Address,
    Attributes,
    Family,
    Mode,
    Neighbor,
    Network,
    Segment,
    SegmentType,
    Speaker,
    UnknownAttribute,
)
from tests.support.crowd import Crowd, Guest, Tended, add_addresses, maker
from tests.support.lan import Lan
from tests.support.malformed import HEADERS, HOSTILE, MALFORMED, OPENS, Case, written
from tests.support.scenario import ACCEPT_ALL, SEND_ALL, SERVER, wait_until_listening

pytestmark = pytest.mark.engine

BOTH = frozenset(Family)
_V4, _V6 = Family.IPV4, Family.IPV6
#: Whose addresses are nobody's in particular.
RANGE = range(100, 250)


@dataclass
class Place:
    """An engine, the witnesses, and room for hostile neighbours."""

    lan: Lan
    engine: Tended
    crowd: Crowd
    speaker: Speaker
    witnesses: list[Guest]
    pid: int
    _numbers: dict[Family, Iterator[int]] = field(default_factory=lambda: {family: iter(RANGE) for family in Family})
    _prefixes: Iterator[int] = field(default_factory=count)

    def guest(self, family: Family, **more: Any) -> Guest:
        """Make a neighbour that nobody has seen before, over this family; it does not connect yet."""
        number = next(self._numbers[family])
        address: Address = IPv4Address(f"192.0.2.{number}") if family is _V4 else IPv6Address(f"2001:db8::{number}")
        server: Address = self.lan.ipv4("rs") if family is _V4 else self.lan.ipv6("rs")
        return self.crowd.guest(address, server, said(HOSTILE, number, **more))

    def joined(self, guest: Guest) -> Guest:
        """Bring its session up."""
        guest.connect(guest.open)
        self.crowd.until(lambda: guest.established, what=f"{guest.address} is established")
        return guest

    def prefix(self, family: Family) -> Network:
        """Return a prefix that nobody has announced before."""
        number = next(self._prefixes)
        return ip_network(f"10.{number >> 8}.{number & 255}.0/24" if family is _V4 else f"2001:db8:{number + 1:x}::/48")

    def seen(self, prefix: Network) -> list[Attributes | None]:
        """Return what the witnesses have for a prefix."""
        key = Family.of(prefix), pack([prefix])
        return [None if (octets := one.table.get(key)) is None else decode(octets) for one in self.witnesses]

    def expect(self, prefix: Network, wanted: Attributes | None) -> None:
        """Wait until both witnesses have this, or nothing."""
        self.crowd.until(
            lambda: self.seen(prefix) == [wanted] * 2, what=f"{prefix} is {wanted}, not {self.seen(prefix)}"
        )

    def unharmed(self) -> None:
        """The process lives, no witness lost its session, and new routes still go from one to the other."""
        for teller, hearer in (self.witnesses, self.witnesses[::-1]):
            for family in Family:
                prefix = self.prefix(family)
                teller.announce(plain(teller, family), [prefix])
                key = family, pack([prefix])
                self.crowd.until(partial(has, hearer, key), what="witnesses hear of one another")
                teller.withdraw([prefix])
                self.crowd.until(partial(lacks, hearer, key), what="and that it is over")
        assert self.engine.pid == self.pid
        assert all(witness.established and not witness.ended for witness in self.witnesses)
        assert self.engine.complaints(but="watcher-cut-off") == []


def has(guest: Guest, key: tuple[Family, bytes]) -> bool:
    """Tell whether a guest has a route."""
    return key in guest.table


def lacks(guest: Guest, key: tuple[Family, bytes]) -> bool:
    """Tell whether a guest has no such route."""
    return key not in guest.table


def said(asn: int, number: int, **more: Any) -> Open:
    """Make an OPEN; without hold time nobody has to speak."""
    given = Open(asn, 0, IPv4Address(0x0A000000 + number), BOTH, four_octet=True, refresh=True)
    return replace(given, **more)


def plain(guest: Guest, family: Family, **more: Any) -> Attributes:
    """Make the attributes that a guest announces."""
    number = int(str(guest.address).rpartition("." if guest.address.version == 4 else ":")[2])
    hop: Address = IPv4Address(f"192.0.2.{number}") if family is _V4 else IPv6Address(f"2001:db8::{number}")
    return Attributes(hop, as_path=(Segment(SegmentType.SEQUENCE, (guest.open.asn,)),), **more)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Run the engine, and two witnesses: one takes long messages, the other knows two octets of AS numbers only."""
    with Lan("rs", "crowd") as lan, Tended("native", lan, "rs") as engine, maker(lan.namespace("crowd")) as make:
        numbers = [51, 52, *RANGE]
        fours, sixes = [IPv4Address(f"192.0.2.{n}") for n in numbers], [IPv6Address(f"2001:db8::{n}") for n in numbers]
        add_addresses(lan, "crowd", [*fours, *sixes])
        wanted = speaker(lan)
        engine.apply(wanted)
        wait_until_listening(lan, "rs", wanted)
        crowd = Crowd(make)
        try:
            witnesses = [
                crowd.guest(fours[0], lan.ipv4("rs"), said(65001, 1, extended_message=True)),
                crowd.guest(sixes[1], lan.ipv6("rs"), said(65002, 2, four_octet=False)),
            ]
            made = Place(lan, engine, crowd, wanted, witnesses, engine.pid)
            for witness in witnesses:
                made.joined(witness)
            yield made
            made.unharmed()
            assert crowd.surprises == []
        finally:
            crowd.close()


def speaker(lan: Lan) -> Speaker:
    """Return the route server: the witnesses, and two ranges from which anybody may come."""
    base = Neighbor(
        "", 0, families=tuple(Family), imports=ACCEPT_ALL, exports=SEND_ALL, passive=True, hold_time=0, restart_time=0
    )
    neighbors = (
        replace(base, name="one", asn=65001, address=IPv4Address("192.0.2.51")),
        replace(base, name="two", asn=65002, address=IPv6Address("2001:db8::52")),
        replace(base, name="any4", asn=HOSTILE, range=ip_network("192.0.2.0/24")),
        replace(base, name="any6", asn=HOSTILE, range=ip_network("2001:db8::/64")),
    )
    listen = (lan.ipv4("rs"), lan.ipv6("rs"))
    return Speaker("rs", Mode.TRANSPARENT, SERVER, lan.ipv4("rs"), listen, neighbors=neighbors)


# -- UPDATEs that are wrong


CASES = [pytest.param(case, family, id=f"{case.what}-{family.name}") for case in MALFORMED for family in case.families]


@pytest.mark.parametrize(("case", "family"), CASES)
def test_an_error_costs_what_rfc_7606_says_and_nothing_more(place: Place, case: Case, family: Family) -> None:
    """The route, the attribute or the session; never a route of others, and never what was wrong with it."""
    guest, prefix = place.joined(place.guest(family)), place.prefix(family)
    hop: Address = IPv4Address("192.0.2.99") if family is _V4 else IPv6Address("2001:db8::99")
    before = replace(plain(guest, family), next_hop=hop)
    guest.announce(before, [prefix])
    place.expect(prefix, before)
    guest.excused = "" if isinstance(case.costs, str) else "it is to be reset"
    guest.write(written(case, family, prefix))
    if not isinstance(case.costs, str):
        place.crowd.until(lambda: guest.ended, what="the session is reset")
        (notify,) = guest.ended
        assert notify is not None
        assert (notify.code, notify.subcode) == case.costs
        place.expect(prefix, None)
        return
    place.expect(prefix, None if case.costs == "route" else replace(before, med=77))
    # The session goes on: what it says next counts.
    guest.announce(replace(before, med=5), [prefix])
    place.expect(prefix, replace(before, med=5))
    assert guest.established
    guest.close()
    place.expect(prefix, None)


@pytest.mark.parametrize("family", Family)
def test_what_we_do_not_know_is_passed_on_with_a_mark(place: Place, family: Family) -> None:
    """RFC 4271 5: an optional transitive attribute; we have not understood it."""
    guest, prefix = place.joined(place.guest(family)), place.prefix(family)
    given = plain(guest, family)
    guest.write(guest.announcement(given, [prefix], bytes.fromhex("c063021122")))
    place.expect(prefix, replace(given, unknown=(UnknownAttribute(0xE0, 99, b"\x11\x22"),)))
    guest.close()


@pytest.mark.parametrize("family", Family)
def test_what_is_too_long_for_some_is_for_the_others(place: Place, family: Family) -> None:
    """RFC 8654 4: attributes of ten thousand octets; who cannot have the new route must not keep the old one."""
    guest, prefix = place.joined(place.guest(family, extended_message=True)), place.prefix(family)
    given = plain(guest, family)
    long = replace(given, communities=tuple((1, n) for n in range(2500)))
    guest.announce(given, [prefix])
    place.expect(prefix, given)
    guest.announce(long, [prefix])
    place.crowd.until(lambda: place.seen(prefix) == [long, None], what="who takes long messages has it")
    guest.announce(replace(given, med=1), [prefix])
    place.expect(prefix, replace(given, med=1))
    guest.close()


# -- messages that are wrong


@pytest.mark.parametrize(("what", "answer", "octets"), HEADERS, ids=[what for what, _, _ in HEADERS])
def test_a_message_that_cannot_be_read_ends_the_session(
    place: Place, what: str, answer: tuple[int, int], octets: bytes
) -> None:
    """With the NOTIFICATION of RFC 4271 6; its routes go."""
    guest, prefix = place.joined(place.guest(_V4)), place.prefix(_V4)
    guest.announce(plain(guest, _V4), [prefix])
    place.expect(prefix, plain(guest, _V4))
    guest.excused = what
    guest.write(octets)
    place.crowd.until(lambda: guest.ended, what="the session is reset")
    assert codes(guest) == [answer]
    place.expect(prefix, None)


def codes(guest: Guest) -> list[tuple[int, int] | None]:
    """Return the NOTIFICATIONs that a guest was told, None where a connection ended without."""
    return [None if notify is None else (notify.code, notify.subcode) for notify in guest.ended]


@pytest.mark.parametrize(("what", "answer", "octets"), OPENS, ids=[what for what, _, _ in OPENS])
@pytest.mark.parametrize("family", Family)
def test_an_open_that_will_not_do_is_refused(
    place: Place, family: Family, what: str, answer: tuple[int, int], octets: bytes
) -> None:
    """RFC 4271 6.1, 6.2, 6.6, RFC 5492 5."""
    guest = place.guest(family)
    guest.connect(guest.open, instead=octets)
    place.crowd.until(lambda: guest.ended, what=f"{what} is refused")
    assert codes(guest) == [answer]


# -- connections


def test_half_open_connections_keep_nobody_out(place: Place) -> None:
    """A neighbour that connects again and again and says nothing: its last connection is the one that counts."""
    guest = place.guest(_V4)
    silent = [connected(place, guest) for _ in range(30)]
    place.joined(guest)
    for one in silent:
        one.settimeout(30)
        assert b"".join(iter(partial(received, one), b""))[-2:] == b"\x06\x07", "a collision (RFC 4486 4)"
        one.close()
    guest.close()
    place.unharmed()


def connected(place: Place, guest: Guest) -> socket.socket:
    """Connect as a guest would."""
    made = place.crowd.make(socket.AF_INET)
    made.bind((str(guest.address), 0))
    made.connect((str(guest.server), 179))
    return made


def received(one: socket.socket) -> bytes:
    """Receive; an end of whatever kind is the end."""
    try:
        return one.recv(1 << 16)
    except ConnectionResetError:
        return b""


def test_thousands_of_connections_leave_nothing_behind(place: Place) -> None:
    """By nobody's neighbour and by one, with and without octets: no descriptor stays open."""
    guest, before = place.guest(_V4), descriptors(place)
    for number in range(3000):
        one = connected(place, guest)
        if number % 3 == 0:
            one.send(bytes(range(number % 256)) + b"\xff" * 16)
        one.close()
        if number % 200 == 0:
            place.crowd.turn(0)
    place.unharmed()
    place.crowd.until(lambda: descriptors(place) <= before, what=f"no more than {before} descriptors are open")


def descriptors(place: Place) -> int:
    """Count the open descriptors of the process."""
    return len(list(Path(f"/proc/{place.pid}/fd").iterdir()))


# -- who does not read


@pytest.mark.parametrize("family", Family)
def test_one_who_does_not_read_holds_up_nobody_and_misses_nothing(place: Place, family: Family) -> None:
    """The others hear everything meanwhile; what waits for it stays bounded; reading again, it ends with the right table."""
    teller, other = place.witnesses if family is _V4 else place.witnesses[::-1]
    deaf = place.joined(place.guest(family))
    prefixes = [place.prefix(family) for _ in range(300)]
    deaf.stop_reading()
    before = other.heard
    flood(place, teller, other, prefixes, range(1, 31))
    full = place.engine.resident
    flood(place, teller, other, prefixes, range(31, 71))
    assert place.engine.resident < full + (10 << 20), "what waits grows with what is said"
    teller.withdraw(prefixes[::2])
    deaf.read_on()
    wanted = {(family, pack([prefix])) for prefix in prefixes[1::2]}
    place.crowd.until(lambda: rightly(deaf, other, family, wanted), what="it has what the others have")
    assert deaf.heard < (other.heard - before) * 0.75, "it was told everything after all"
    teller.withdraw(prefixes[1::2])
    place.crowd.until(lambda: not deaf.table, what="all is withdrawn")
    deaf.close()
    place.unharmed()


def test_a_watcher_that_does_not_read_costs_a_bounded_amount(place: Place) -> None:
    """The daemon may be slower than a neighbour that says long things: it is cut off, and will come again."""
    teller, other = place.witnesses
    prefixes = [place.prefix(_V4) for _ in range(300)]
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.connect(str(place.engine.directory / "state" / "rib.sock"))
        daemon.send(b'{"id": 1, "method": "watch"}\n')
        flood(place, teller, other, prefixes, range(1, 41))
        full = place.engine.resident
        flood(place, teller, other, prefixes, range(41, 81))
        assert place.engine.resident < full + (10 << 20), "what waits grows with what is said"
        assert place.engine.complaints(but="watcher-cut-off") == []
    teller.withdraw(prefixes)
    place.crowd.until(lambda: not other.table, what="all is withdrawn")


def flood(place: Place, teller: Guest, other: Guest, prefixes: list[Network], rounds: range) -> None:
    """Announce each prefix in each round, a megabyte in all, and wait until another has heard; the MED tells the round."""
    family = Family.of(prefixes[0])
    no_med, messages = bytes.fromhex("80040400000000"), []
    for number, prefix in enumerate(prefixes):
        long = plain(teller, family, med=0, communities=tuple((number, n) for n in range(800)))
        messages.append(teller.announcement(long, [prefix]))
        teller.said[prefix] = long
    for number in rounds:
        med = no_med[:3] + number.to_bytes(4, "big")
        teller.write(b"".join(one.replace(no_med, med) for one in messages))
        keys = [(family, pack([prefix])) for prefix in prefixes]
        heard = partial(_all_hold, other, keys, med)
        place.crowd.until(heard, within=60, what=f"another hears round {number}")


def _all_hold(other: Guest, keys: list[tuple[Family, bytes]], octets: bytes) -> bool:
    return all(octets in other.table.get(key, b"") for key in keys)


def rightly(deaf: Guest, other: Guest, family: Family, wanted: set[tuple[Family, bytes]]) -> bool:
    """Tell whether it has exactly these prefixes, with the attributes that another one has."""
    assert deaf.table.keys() == wanted, f"{len(deaf.table)} prefixes, not {len(wanted)}"
    mine = {key: decode(octets) for key, octets in deaf.table.items()}
    return mine == {key: decode(octets) for key, octets in other.table.items() if key in wanted and key[0] is family}
