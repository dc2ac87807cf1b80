"""UPDATEs into the tables: both ways end in the same place, whatever comes. `EDGEWAY_STEPS` makes the random part longer."""

from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network
from random import Random
from typing import Any

import pytest

from routing.bgp.attributes import Code, downgrade, encode, known
from routing.bgp.hot import announce, split
from routing.bgp.intake import Intake
from routing.bgp.nlri import WIDTHS, each, pack, unpack
from routing.bgp.notify import Notify
from routing.bgp.routeserver import RouteServer
from routing.bgp.session import Established
from routing.bgp.update import Format
from routing.bgp.values import (
    Attributes,
    ExportPolicy,
    Family,
    ImportPolicy,
    Mode,
    Neighbor,
    Network,
    PrefixRule,
    Reason,
    Segment,
    SegmentType,
    Speaker,
)
from tests.support import fuzzing
from tests.support.speaking import LIMIT, SPOILT, announcement, end, messages, withdrawal

US = 65000
ADDRESS = ip_address("192.0.2.1")
BOTH = Format(frozenset(Family), internal=False)
EXTENDED = replace(BOTH, extended_next_hop=True)
P1, P2, P3 = (ip_network(f"10.0.{n}.0/24") for n in (1, 2, 3))
SIX, OTHER_SIX = ip_network("2001:db8:1::/48"), ip_network("2001:db8:2::/48")
PATH = (Segment(SegmentType.SEQUENCE, (65001, 4200000000)),)
FOUR = Attributes(ADDRESS, as_path=PATH)
OF_SIX = Attributes(ip_address("2001:db8::1"), as_path=PATH)
ANY = (PrefixRule(ip_network("0.0.0.0/0"), 0, 32), PrefixRule(ip_network("::/0"), 0, 128))
UPDATES = int(os.environ.get("EDGEWAY_STEPS", "200")) * 10
SEEDS = [int(os.environ["EDGEWAY_SEED"])] if "EDGEWAY_SEED" in os.environ else [1, 2, 3]


class Counting(Intake):
    """Counts what it reads closely."""

    __slots__ = ("closely",)

    closely: int

    def _closely(self, *message: Any) -> None:
        self.closely = getattr(self, "closely", 0) + 1
        super()._closely(*message)


class Thorough(Intake):
    """Reads everything closely."""

    __slots__ = ()

    def _briefly(self, *_: bytes) -> bool:
        return False


class Hasty(Intake):
    """Reads nothing closely."""

    __slots__ = ()

    def _closely(self, *_: Any) -> None:
        raise AssertionError("read closely")


class Bench:
    """A neighbour that is up, and what it says."""

    def __init__(self, agreed: Format = BOTH, kind: type[Intake] = Intake, policy: ImportPolicy | None = None) -> None:
        """Establish the session."""
        policy = policy or ImportPolicy(accept=ANY, refuse_as_set=False, max_path_length=1000)
        asn = US if agreed.internal else 65001
        neighbor = Neighbor("n", asn, ADDRESS, imports=policy, exports=ExportPolicy(ANY), families=tuple(Family))
        speaker = Speaker("s", Mode.TRANSPARENT, US, IPv4Address("192.0.2.254"), (), neighbors=(neighbor,))
        self.server = RouteServer(speaker, 0)
        session = Established(IPv4Address("10.0.0.1"), ADDRESS, agreed.families, agreed.extended_next_hop, 90)
        session = replace(session, kept=agreed.families, preserved=agreed.families)
        self.session, self.agreed, self.kind = session, agreed, kind
        self.up()

    def up(self) -> None:
        """Establish the session, again or for the first time."""
        assert self.server.session_up(ADDRESS, self.session, self.agreed, 0)
        self.peer = self.server.peers[ADDRESS]
        self.intake = self.kind(self.server, self.peer, self.agreed)

    def take(self, *said: Any) -> Notify | None:
        """Take messages in; return what ends the session."""
        try:
            self.intake.take(said, 0)
        except Notify as fault:
            return fault
        return None

    def tables(self) -> dict[bytes, tuple[Family, bytes, bytes, Reason | None, bool, frozenset[int]]]:
        """Return what the neighbour says, after comparing it with its counts."""
        found = {
            one: (family, path.octets, path.next_hop, path.reason, path.stale, path.avoid)
            for family, path, nlri in self.server.tables.said(self.peer)
            for one in (family.name.encode() + each for each in each(nlri, WIDTHS[family]))
        }
        assert self.peer.received == len(found)
        assert self.peer.accepted == sum(reason is None for _, _, _, reason, _, _ in found.values())
        return found

    def said(self) -> dict[Network, Attributes | Reason]:
        """Return it as values: attributes, or why they are refused."""
        return {
            prefix: path.attributes if path.reason is None else path.reason
            for family, path, nlri in self.server.tables.said(self.peer)
            for prefix in unpack(nlri, family)
        }


@pytest.fixture(params=[Intake, Hasty, Thorough])
def bench(request: pytest.FixtureRequest) -> Bench:
    """Read as it comes, by the short way alone, by the long one alone."""
    return Bench(kind=request.param)


def test_prefixes_come_and_go(bench: Bench) -> None:
    """Of both families, in messages of their own."""
    bench.take(*announcement(FOUR, [P1, P2]), *announcement(OF_SIX, [SIX, OTHER_SIX]))
    assert bench.said() == {P1: FOUR, P2: FOUR, SIX: OF_SIX, OTHER_SIX: OF_SIX}
    bench.take(*withdrawal([P1]), *withdrawal([SIX]))
    assert bench.said() == {P2: FOUR, OTHER_SIX: OF_SIX}


def test_one_message_withdraws_and_announces(bench: Bench) -> None:
    """RFC 4271 3.1, 4.3; what it names twice is announced."""
    bench.take(*announcement(FOUR, [P1, P2]))
    bench.take((2, pack([P1, P2]), encode(replace(FOUR, med=1), Family.IPV4), pack([P2, P3])))
    assert bench.said() == {P2: replace(FOUR, med=1), P3: replace(FOUR, med=1)}


def test_one_message_withdraws_and_announces_of_ipv6(bench: Bench) -> None:
    """RFC 4760: both attributes may be in one UPDATE."""
    bench.take(*announcement(OF_SIX, [SIX]))
    ((_, _, attributes, _),) = announcement(OF_SIX, [OTHER_SIX])
    gone = known(Code.MP_UNREACH_NLRI, bytes.fromhex("000201") + pack([SIX])).octets()
    bench.take((2, b"", gone + attributes, b""))
    assert bench.said() == {OTHER_SIX: OF_SIX}


def test_host_bits_do_not_matter(bench: Bench) -> None:
    """RFC 4271 4.3: of what is announced, and of what is withdrawn."""
    bench.take((2, b"", encode(FOUR, Family.IPV4), bytes.fromhex("160a0003 180a0001")))
    assert bench.said() == {ip_network("10.0.0.0/22"): FOUR, P1: FOUR}
    bench.take((2, bytes.fromhex("160a0001"), b"", b""))
    assert bench.said() == {P1: FOUR}


def test_a_path_is_judged_by_its_next_hop_too() -> None:
    """The same octets are judged once."""
    policy = ImportPolicy(accept=ANY, next_hops=(ip_network("192.0.2.1/32"),))
    bench = Bench(policy=policy)
    bench.take(*announcement(FOUR, [P1]), *announcement(replace(FOUR, next_hop=ip_address("192.0.2.2")), [P2]))
    assert bench.said() == {P1: FOUR, P2: Reason.NEXT_HOP}


def test_end_of_rib_of_each_family_is_understood() -> None:
    """RFC 4724 2: what was not said again goes."""
    bench = Bench()
    bench.take(*announcement(FOUR, [P1, P2]), *announcement(OF_SIX, [SIX]))
    bench.server.session_down(ADDRESS, 0, graceful=True)
    bench.up()
    bench.take(*announcement(FOUR, [P2]), *end(Family.IPV4))
    assert bench.said() == {P2: FOUR, SIX: OF_SIX}
    bench.take(*end(Family.IPV6))
    assert bench.said() == {P2: FOUR}


@pytest.mark.parametrize("kind", [Intake, Thorough])
def test_redundant_large_communities_are_removed(kind: type[Intake]) -> None:
    """RFC 8092 3: silently, on receipt. However many they are; what is left stands in its order."""
    for large in ([(7, 1, 2), (7, 1, 1)], [(7, n, n) for n in range(100)]):
        bench, wanted = Bench(kind=kind), replace(FOUR, large_communities=tuple(large))
        twice = replace(FOUR, large_communities=(*large, large[1], *large))
        bench.take(*announcement(twice, [P1]), *announcement(wanted, [P2]))
        assert bench.said() == {P1: wanted, P2: wanted}
        assert bench.intake.detail == ""
        assert len(bench.peer.all_paths()) == 1, "one set of attributes has one form"


def test_what_is_malformed_is_remembered_as_that() -> None:
    """RFC 7606: the session stays, and the log can say what was wrong."""
    bench = Bench()
    bench.take(*announcement(FOUR, [P1, P2]))
    assert bench.intake.detail == ""
    assert bench.take(*announcement(FOUR, [P1], SPOILT), *announcement(OF_SIX, [SIX], SPOILT)) is None
    assert bench.said() == {P1: Reason.MALFORMED, P2: FOUR, SIX: Reason.MALFORMED}
    assert "MULTI_EXIT_DISC" in bench.intake.detail
    bench.take(*announcement(FOUR, [P1]))
    assert bench.said()[P1] == FOUR


@pytest.mark.parametrize("kind", [Intake, Thorough])
def test_a_path_through_as_0_is_malformed(kind: type[Intake]) -> None:
    """RFC 7607 2: otherwise ordinary, it could be shown to nobody."""
    bench = Bench(kind=kind)
    assert bench.take(*announcement(replace(FOUR, as_path=(Segment(SegmentType.SEQUENCE, (65001, 0)),)), [P1])) is None
    assert bench.said() == {P1: Reason.MALFORMED}


def test_what_does_not_cross_the_border_is_dropped_on_the_way_in() -> None:
    """RFC 7606 7.5, 7.9, 7.10: LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST of eBGP, and not of iBGP."""
    full = replace(FOUR, local_pref=7, originator_id=IPv4Address("10.9.9.9"), cluster_list=(IPv4Address("10.8.8.8"),))
    bench = Bench()
    bench.take(*announcement(full, [P1]))
    assert bench.said() == {P1: FOUR}
    bench = Bench(replace(BOTH, internal=True))
    bench.take(*announcement(full, [P1]))
    assert bench.said() == {P1: full}


def test_a_neighbour_of_two_octets_is_read_closely() -> None:
    """RFC 6793: what its path says is in two attributes."""
    bench = Bench(replace(BOTH, four_octet=False))
    bench.take(*messages(announce(downgrade(encode(FOUR, Family.IPV4)), pack([P1]), LIMIT)))
    assert bench.said() == {P1: FOUR}


@pytest.mark.parametrize("kind", [Intake, Thorough])
def test_a_next_hop_of_ipv6_for_ipv4_must_have_been_agreed_on(kind: type[Intake]) -> None:
    """RFC 8950."""
    mixed = announcement(OF_SIX, [P1])
    bench = Bench(EXTENDED, kind)
    assert bench.take(*mixed) is None
    assert bench.said() == {P1: OF_SIX}
    bench = Bench(BOTH, kind)
    assert bench.take(*mixed) == Notify(3, 9, known(Code.MP_REACH_NLRI, mixed[0][2][3 : 3 + mixed[0][2][2]]).octets())
    assert bench.said() == {}


@pytest.mark.parametrize("kind", [Intake, Thorough])
@pytest.mark.parametrize("family", Family)
def test_a_family_that_was_not_agreed_on_is_ignored(kind: type[Intake], family: Family) -> None:
    """RFC 7606 7.11 leaves us the choice."""
    bench = Bench(replace(BOTH, families=frozenset(Family) - {family}), kind)
    prefixes, attributes = ([P1], FOUR) if family is Family.IPV4 else ([SIX], OF_SIX)
    assert bench.take(*announcement(attributes, prefixes), *withdrawal(prefixes), *end(family)) is None
    assert bench.said() == {}


def test_lengths_that_do_not_agree_end_the_session() -> None:
    """RFC 4271 6.3: there is no telling what the rest would be."""
    bench = Bench()
    assert bench.take(*announcement(FOUR, [P1]), (2, b"\xff\xff"), *announcement(FOUR, [P2])) == Notify(3, 1)
    assert bench.said() == {P1: FOUR}


@pytest.mark.parametrize(
    "bad",
    [
        (2, pack([P1]), encode(FOUR, Family.IPV4), b"\x21\x0a\x00\x00\x00\x00"),
        (2, b"\x18\x0a", encode(FOUR, Family.IPV4), pack([P2])),
        (2, pack([P1]) + b"\x40", b"", b""),
        (
            2,
            b"",
            known(Code.MP_UNREACH_NLRI, bytes.fromhex("000101") + pack([P1])).octets()
            + encode(OF_SIX, Family.IPV6)[:2]
            + b"\x17"
            + encode(OF_SIX, Family.IPV6)[3:24]
            + b"\xff\x00"
            + encode(OF_SIX, Family.IPV6)[24:],
            b"",
        ),
    ],
    ids=["NLRI", "withdrawn routes", "withdrawn routes alone", "MP_REACH_NLRI"],
)
@pytest.mark.parametrize("kind", [Intake, Thorough])
def test_of_a_message_that_ends_the_session_nothing_is_taken_in(kind: type[Intake], bad: Any) -> None:
    """Not even what could be read."""
    bench = Bench(kind=kind)
    bench.take(*announcement(FOUR, [P1]))
    fault = bench.take(bad)
    assert isinstance(fault, Notify)
    assert fault.code == 3
    assert bench.said() == {P1: FOUR}


# -- whatever comes -------------------------------------------------------------------------------------------------


def said(dice: Random, agreed: Format) -> Any:
    """Make a message that is often ordinary, often names the same prefixes, and is sometimes spoilt."""
    withdrawn, attributes, nlri = fuzzing.some_update(dice, agreed)
    if dice.random() < 0.5:
        few = [P1, P2, P3, ip_network("10.0.0.0/8")]
        nlri, withdrawn = (nlri and pack(dice.sample(few, 2))), (withdrawn and pack(dice.sample(few, 1)))
    if dice.random() < 0.4:
        spoil = dice.choice((fuzzing.spoiled, fuzzing.spoiled_attributes))
        attributes = spoil(dice, attributes)
    if dice.random() < 0.1:
        nlri = fuzzing.spoiled(dice, nlri)
    if dice.random() < 0.1:
        withdrawn = fuzzing.spoiled(dice, withdrawn)
    return 2, withdrawn, attributes, nlri


@pytest.mark.parametrize("internal", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_both_ways_end_in_the_same_place(seed: int, internal: bool) -> None:
    """The same tables, the same octets, the same end; and a message that ends the session leaves them as they were."""
    dice, closely = Random(seed), 0
    for _ in range(UPDATES // 50):
        agreed = replace(BOTH, internal=internal, extended_next_hop=dice.random() < 0.5)
        quick, slow = Bench(agreed, Counting), Bench(agreed, Thorough)
        for _ in range(50):
            message, before = said(dice, agreed), quick.tables()
            ends = quick.take(message), slow.take(message)
            after = quick.tables()
            assert ends[0] == ends[1], message
            assert after == slow.tables(), message
            assert ends[0] is None or after == before, message
        assert isinstance(quick.intake, Counting)
        closely += quick.intake.closely
    assert UPDATES // 10 < closely < UPDATES * 9 // 10, "one of the ways is hardly taken"


def test_what_split_makes_of_any_octets_is_taken_in_or_ends_the_session() -> None:
    """Nothing else is raised, whatever stands in a message."""
    dice, bench, ended = Random(4), Bench(EXTENDED), 0
    for number in range(UPDATES):
        bench = bench if number % 50 else Bench(EXTENDED)
        _, withdrawn, attributes, nlri = said(dice, EXTENDED)
        body = len(withdrawn).to_bytes(2, "big") + withdrawn + len(attributes).to_bytes(2, "big") + attributes + nlri
        body = fuzzing.spoiled(dice, body)
        data = b"\xff" * 16 + (19 + len(body)).to_bytes(2, "big") + b"\x02" + body
        found, _, _ = split(data, 65535)
        before = bench.tables()
        if bench.take(*found) is not None:
            ended += 1
            assert bench.tables() == before
    assert 0 < ended < UPDATES
