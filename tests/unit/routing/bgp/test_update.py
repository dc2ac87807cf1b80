from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.bgp.attributes import Attribute, Code, join, known
from routing.bgp.messages import Notify
from routing.bgp.update import Format, Update, read
from routing.bgp.values import Family
from tests.support import fuzzing

with pytest.MonkeyPatch.context() as patch:
    patch.setattr("logging.Logger.warning", lambda *_: None)  # it complains about being asked anything at all
    from scapy.contrib import bgp as scapy

BOTH = Format(frozenset(Family), internal=False)
EXTENDED = replace(BOTH, extended_next_hop=True)
IPV4_ALONE = replace(BOTH, families=frozenset({Family.IPV4}))
IPV6_ALONE = replace(BOTH, families=frozenset({Family.IPV6}))

ORIGIN = known(Code.ORIGIN, b"\0")
PATH = known(Code.AS_PATH, bytes.fromhex("0201 0000fde9"))
HOP = known(Code.NEXT_HOP, bytes.fromhex("c0000201"))
COMMUNITY = known(Code.COMMUNITIES, bytes.fromhex("00010002"))
PLAIN = join([ORIGIN, PATH, HOP])

NET = bytes.fromhex("180a0000")
OTHER = bytes.fromhex("180a0100")
NET6 = bytes.fromhex("2020010db8")
HOP6 = bytes.fromhex("20010db8000000000000000000000001")
LOCAL6 = bytes.fromhex("fe800000000000000000000000000001")


def reach(family: str, hop: bytes, nlri: bytes, reserved: bytes = b"\0") -> Attribute:
    """Make an MP_REACH_NLRI; `family` as octets in hex."""
    return known(Code.MP_REACH_NLRI, bytes.fromhex(family) + bytes((len(hop),)) + hop + reserved + nlri)


def unreach(family: str, nlri: bytes = b"") -> Attribute:
    """Make an MP_UNREACH_NLRI."""
    return known(Code.MP_UNREACH_NLRI, bytes.fromhex(family) + nlri)


REACH6 = reach("000201", HOP6, NET6)
REDUCED6 = bytes.fromhex("800e15 000201 10") + HOP6 + b"\0"
REDUCED4 = bytes.fromhex("800e15 000101 10") + HOP6 + b"\0"


def test_an_ordinary_update_is_read_as_it_is() -> None:
    """The octets of the attributes are those that came."""
    assert read(OTHER, PLAIN, NET, BOTH) == Update(
        withdrawn=((Family.IPV4, OTHER),), announced=((Family.IPV4, PLAIN, NET),)
    )


def test_an_update_of_ipv6_is_read() -> None:
    """RFC 4760: the family and the next hop go to the front of the attributes, wherever they were."""
    attributes = join([ORIGIN, REACH6, PATH, unreach("000201", NET6)])
    assert read(b"", attributes, b"", BOTH) == Update(
        withdrawn=((Family.IPV6, NET6),), announced=((Family.IPV6, REDUCED6 + join([ORIGIN, PATH]), NET6),)
    )


def test_host_bits_are_cleared() -> None:
    """RFC 4271 4.3: they are irrelevant, and equal prefixes must be equal."""
    update = read(b"\x09\x0a\xff", PLAIN + join([reach("000201", HOP6, b"\x09\x20\xff")]), b"\x09\x0a\xff", BOTH)
    assert update.withdrawn == ((Family.IPV4, b"\x09\x0a\x80"),)
    assert [nlri for _, _, nlri in update.announced] == [b"\x09\x0a\x80", b"\x09\x20\x80"]


def test_ipv4_and_ipv6_may_share_an_update() -> None:
    """RFC 7606 5.1 asks senders not to; each gets its own octets."""
    attributes = join([ORIGIN, PATH, HOP, REACH6])
    assert read(b"", attributes, NET, BOTH).announced == (
        (Family.IPV4, PLAIN, NET),
        (Family.IPV6, REDUCED6 + join([ORIGIN, PATH]), NET6),
    )


def test_of_two_next_hops_the_global_one_counts() -> None:
    """RFC 2545 3."""
    attributes = join([ORIGIN, PATH, reach("000201", HOP6 + LOCAL6, NET6)])
    assert read(b"", attributes, b"", BOTH).announced == ((Family.IPV6, REDUCED6 + join([ORIGIN, PATH]), NET6),)


def test_the_reserved_octet_does_not_matter() -> None:
    """RFC 4760 3: "SHOULD be ignored upon receipt"."""
    attributes = join([ORIGIN, PATH, reach("000201", HOP6, NET6, b"\xff")])
    assert read(b"", attributes, b"", BOTH).announced == ((Family.IPV6, REDUCED6 + join([ORIGIN, PATH]), NET6),)


def test_ipv4_may_come_as_other_families_do() -> None:
    """With an IPv4 next hop it gets the octets that `hot.lift` gives it; a NEXT_HOP beside is ignored."""
    attributes = join(
        [ORIGIN, PATH, HOP._replace(value=b"bad"), reach("000101", HOP.value, NET), unreach("000101", OTHER)]
    )
    assert read(b"", attributes, b"", BOTH) == Update(
        withdrawn=((Family.IPV4, OTHER),), announced=((Family.IPV4, join([HOP, ORIGIN, PATH]), NET),)
    )


@pytest.mark.parametrize("hop", [HOP6, HOP6 + LOCAL6])
def test_an_ipv4_prefix_may_have_an_ipv6_next_hop_where_it_was_agreed(hop: bytes) -> None:
    """RFC 8950 3; otherwise it is a length that nobody expected."""
    attributes = join([ORIGIN, PATH, reach("000101", hop, NET)])
    assert read(b"", attributes, b"", EXTENDED).announced == ((Family.IPV4, REDUCED4 + join([ORIGIN, PATH]), NET),)
    with pytest.raises(Notify) as caught:
        read(b"", attributes, b"", BOTH)
    assert (caught.value.code, caught.value.subcode) == (3, 9)


def test_an_ipv4_prefix_keeps_its_ipv4_next_hop_where_another_is_allowed() -> None:
    """RFC 8950 4 adds lengths and takes none away."""
    attributes = join([ORIGIN, PATH, reach("000101", HOP.value, NET)])
    assert read(b"", attributes, b"", EXTENDED) == read(b"", attributes, b"", BOTH)


def test_an_update_of_nothing_is_the_end_of_the_rib() -> None:
    """RFC 4724 2, for IPv4, if anybody wants IPv4."""
    assert read(b"", b"", b"", BOTH) == Update(end_of_rib=Family.IPV4)
    assert read(b"", b"", b"", IPV6_ALONE) == Update()


@pytest.mark.parametrize(("name", "family"), [("000101", Family.IPV4), ("000201", Family.IPV6)])
def test_an_mp_unreach_of_nothing_is_the_end_of_the_rib(name: str, family: Family) -> None:
    """RFC 4724 2, for the family that it names, and only if there is nothing else."""
    attributes = join([unreach(name)])
    assert read(b"", attributes, b"", BOTH) == Update(end_of_rib=family)
    assert read(OTHER, attributes, b"", BOTH) == Update(withdrawn=((Family.IPV4, OTHER),))
    assert read(b"", attributes + PLAIN, NET, BOTH).end_of_rib is None
    assert read(b"", attributes + join([ORIGIN]), b"", BOTH) == Update()


@pytest.mark.parametrize(
    ("attributes", "agreed"),
    [
        ([REACH6, ORIGIN, PATH], IPV4_ALONE),
        ([unreach("000201", NET6)], IPV4_ALONE),
        ([unreach("000201")], IPV4_ALONE),
        ([reach("000101", HOP.value, NET), ORIGIN, PATH], IPV6_ALONE),
        ([reach("000180", bytes(12), b"what is this"), ORIGIN], BOTH),
        ([known(Code.MP_REACH_NLRI, bytes.fromhex("000185"))], BOTH),
        ([unreach("001946", b"\xff" * 40)], BOTH),
        ([reach("000180", bytes(12), b"what is this"), known(Code.ORIGIN, b"\7")], BOTH),
    ],
)
def test_a_family_that_was_not_agreed_on_is_ignored(attributes: list[Attribute], agreed: Format) -> None:
    """Whatever it holds: it is "AFI/SAFI disable" of RFC 7606 2 from the beginning."""
    update = read(b"", join(attributes), b"", agreed)
    assert update == Update(detail=update.detail)
    assert "was not agreed on" in update.detail


def test_a_family_that_was_not_agreed_on_does_not_hide_the_other() -> None:
    """What is beside is read."""
    update = read(OTHER, PLAIN + join([REACH6]), NET, IPV4_ALONE)
    assert update.withdrawn == ((Family.IPV4, OTHER),)
    assert update.announced == ((Family.IPV4, PLAIN, NET),)
    update = read(OTHER, PLAIN + join([REACH6]), NET, IPV6_ALONE)
    assert update.withdrawn == ()
    assert update.announced == ((Family.IPV6, REDUCED6 + join([ORIGIN, PATH]), NET6),)


@pytest.mark.parametrize("nlri", [b"\x21\0\0\0\0\0", b"\xff", b"\x18\x0a", b"\x18\x0a\0\0\x18"])
def test_prefixes_of_ipv4_that_cannot_be_read_end_the_session(nlri: bytes) -> None:
    """RFC 7606 5.3 and 3 j: reachable or not, there is nothing to be withdrawn."""
    for withdrawn, announced in ((nlri, b""), (b"", nlri), (nlri, nlri)):
        with pytest.raises(Notify) as caught:
            read(withdrawn, PLAIN, announced, BOTH)
        assert caught.value == Notify(3, 10)


@pytest.mark.parametrize(
    "attribute",
    [
        reach("000201", HOP6, b"\x81" + bytes(17)),
        reach("000201", HOP6, b"\x20\x20\x01"),
        reach("000101", HOP.value, b"\x21\0\0\0\0\0"),
        unreach("000201", b"\x81" + bytes(17)),
        unreach("000101", b"\x18\x0a"),
        # RFC 7606 7.11: the length of the next hop is not what was expected, or leaves no room for what must follow.
        reach("000201", b"", NET6),
        reach("000201", HOP.value, NET6),
        reach("000201", HOP6 + HOP.value, NET6),
        reach("000201", bytes(24), NET6),
        reach("000101", b"abc", NET),
        reach("000201", HOP6, b"", b""),
        known(Code.MP_REACH_NLRI, bytes.fromhex("00020110") + HOP6[:8]),
        # RFC 7606 5.3: shorter than 5 and 3; flags.
        known(Code.MP_REACH_NLRI, bytes.fromhex("00020110")),
        known(Code.MP_REACH_NLRI, bytes.fromhex("000201")),
        known(Code.MP_REACH_NLRI, bytes.fromhex("0002")),
        known(Code.MP_REACH_NLRI, b""),
        known(Code.MP_UNREACH_NLRI, bytes.fromhex("0002")),
        REACH6._replace(flags=0xC0),
        REACH6._replace(flags=0x40),
        unreach("000201", NET6)._replace(flags=0),
    ],
)
def test_prefixes_of_other_families_that_cannot_be_read_end_the_session(attribute: Attribute) -> None:
    """RFC 7606 5.3, 7.11; RFC 4760 7 names the error, RFC 4271 6.3 wants the attribute as data."""
    with pytest.raises(Notify) as caught:
        read(b"", join([ORIGIN, PATH, attribute]), b"", BOTH)
    assert caught.value == Notify(3, 9, attribute.octets())


@pytest.mark.parametrize("attribute", [REACH6, unreach("000201", NET6), unreach("000180")])
def test_prefixes_that_are_there_twice_end_the_session(attribute: Attribute) -> None:
    """RFC 7606 3 g: of what holds them there can be only one."""
    with pytest.raises(Notify) as caught:
        read(b"", join([attribute, ORIGIN, PATH, attribute]), b"", BOTH)
    assert caught.value == Notify(3, 1)


def test_of_what_is_there_twice_the_first_counts() -> None:
    """RFC 7606 3 g: known or not, right or wrong."""
    again = [known(Code.ORIGIN, b"\2"), COMMUNITY._replace(value=b""), Attribute(0xC0, 99, b"b")]
    first = [COMMUNITY, Attribute(0xC0, 99, b"a")]
    update = read(b"", PLAIN + join([*first, *again]), NET, BOTH)
    assert update.announced == ((Family.IPV4, PLAIN + join([COMMUNITY, Attribute(0xE0, 99, b"a")]), NET),)
    assert update.detail.count("more than once") == 3


@pytest.mark.parametrize("left", [b"\x40", b"\x40\x02", b"\xc0\x08\x08\0\0\0\0", b"\xd0\x08\x01"])
def test_attributes_that_are_cut_off_take_the_routes_with_them(left: bytes) -> None:
    """RFC 7606 4: where the NLRI begin is certain all the same."""
    update = read(OTHER, PLAIN + left, NET, BOTH)
    assert update.withdrawn == ((Family.IPV4, OTHER),)
    assert update.malformed == ((Family.IPV4, NET),)
    assert not update.announced
    assert "end within one" in update.detail


@pytest.mark.parametrize("left", [b"\x80\x0e\xff\0\2\1", b"\x90\x0f\0\4\0\2\1", b"\x80\x0e"])
def test_prefixes_that_are_cut_off_end_the_session(left: bytes) -> None:
    """RFC 7606 3 j: they cannot be treated as withdrawn."""
    with pytest.raises(Notify) as caught:
        read(b"", PLAIN + left, NET, BOTH)
    assert caught.value == Notify(3, 5, left)


@pytest.mark.parametrize(
    ("attributes", "missing"),
    [
        ([PATH, HOP], "ORIGIN"),
        ([ORIGIN, HOP], "AS_PATH"),
        ([ORIGIN, PATH], "NEXT_HOP"),
        ([], "ORIGIN is missing; AS_PATH is missing; NEXT_HOP"),
    ],
)
def test_what_is_mandatory_must_be_there(attributes: list[Attribute], missing: str) -> None:
    """RFC 7606 3 d."""
    assert read(b"", join(attributes), NET, BOTH) == Update(
        malformed=((Family.IPV4, NET),), detail=f"{missing} is missing"
    )


def test_next_hop_is_mandatory_for_plain_prefixes_alone() -> None:
    """RFC 4760 3: the others have their own. Both must be right if there are both."""
    assert read(b"", join([REACH6, ORIGIN, PATH]), b"", BOTH).announced
    update = read(b"", join([REACH6, ORIGIN, PATH]), NET, BOTH)
    assert update.malformed == ((Family.IPV4, NET), (Family.IPV6, NET6))


@pytest.mark.parametrize("hop", ["00" * 16, "00" * 15 + "01", "ff02" + "00" * 13 + "01"])
def test_a_next_hop_that_is_no_host_takes_the_routes_with_it(hop: str) -> None:
    """Its length is right, so the NLRI are found."""
    update = read(b"", join([ORIGIN, PATH, reach("000201", bytes.fromhex(hop), NET6)]), b"", BOTH)
    assert update.malformed == ((Family.IPV6, NET6),)
    assert "no address of a host" in update.detail


def test_one_fault_takes_all_routes_of_the_update_with_it() -> None:
    """RFC 7606 2: "as though all contained routes had been withdrawn"; what was discarded is told as well."""
    found = [known(Code.ORIGIN, b"\7"), PATH, HOP, REACH6, known(Code.LOCAL_PREF, bytes(4)), unreach("000201", NET6)]
    update = read(OTHER, join(found), NET, BOTH)
    assert update == Update(
        withdrawn=((Family.IPV4, OTHER), (Family.IPV6, NET6)),
        malformed=((Family.IPV4, NET), (Family.IPV6, NET6)),
        detail="ORIGIN [40 07]: the value is undefined; LOCAL_PREF [40 00000000] from an external neighbour",
    )


@pytest.mark.parametrize("others", [[], [unreach("000201", NET6)], [reach("000201", HOP6, b"")]])
def test_a_fault_where_nothing_is_reachable_ends_the_session(others: list[Attribute]) -> None:
    """RFC 7606 5.2: "we cannot be confident that the NLRI have been successfully parsed"."""
    with pytest.raises(Notify) as caught:
        read(OTHER, join([*others, known(Code.ORIGIN, b"\7")]), b"", BOTH)
    assert caught.value == Notify(3, 6, bytes.fromhex("400101 07"))


def test_a_cut_where_nothing_is_reachable_ends_the_session() -> None:
    """RFC 7606 5.2 again: whatever was cut off may have held prefixes."""
    with pytest.raises(Notify) as caught:
        read(OTHER, b"\x40", b"", BOTH)
    assert caught.value == Notify(3, 5, b"\x40")


def test_a_discarded_attribute_never_ends_the_session() -> None:
    """RFC 7606 5.2: "other than 'attribute discard'". Nor does one that nobody needs or that is missing."""
    update = read(OTHER, join([known(Code.AGGREGATOR, b""), COMMUNITY]), b"", BOTH)
    assert update.withdrawn == ((Family.IPV4, OTHER),)
    assert update.detail == "AGGREGATOR [c0 empty]: 0 octets, not 8"


def test_what_is_wrong_is_told_in_a_line() -> None:
    """However much is wrong: the log is not the neighbour's to fill."""
    again = [COMMUNITY] * 1001
    assert read(b"", PLAIN + join(again[:9]), NET, BOTH).detail.count("; ") == 7
    assert read(b"", PLAIN + join(again), NET, BOTH).detail.endswith("; and 992 more")


def test_a_path_of_nobody_is_no_error() -> None:
    """What an external neighbour's path must begin with is for the policy to say."""
    attributes = join([ORIGIN, known(Code.AS_PATH, b""), HOP])
    assert read(b"", attributes, NET, BOTH).announced == ((Family.IPV4, attributes, NET),)


def test_local_preference_may_be_missing() -> None:
    """RFC 4271 5.1.5 wants it from internal neighbours; RFC 7606 3 d names only what is mandatory."""
    internal = replace(BOTH, internal=True)
    assert read(b"", PLAIN, NET, internal).announced == ((Family.IPV4, PLAIN, NET),)
    with_preference = PLAIN + join([known(Code.LOCAL_PREF, bytes(4))])
    assert read(b"", with_preference, NET, internal).announced == ((Family.IPV4, with_preference, NET),)
    assert read(b"", with_preference, NET, BOTH).announced == ((Family.IPV4, PLAIN, NET),)


def test_what_claims_to_be_well_known_ends_the_session() -> None:
    """RFC 4271 6.3, which RFC 7606 leaves as it is."""
    with pytest.raises(Notify) as caught:
        read(b"", PLAIN + b"\x40\x63\0", NET, BOTH)
    assert caught.value == Notify(3, 2, b"\x40\x63\0")


def test_an_old_speaker_is_understood() -> None:
    """RFC 6793: what comes out has four octets for each AS number."""
    found = [ORIGIN, known(Code.AS_PATH, bytes.fromhex("0202 fde9 5ba0")), HOP]
    truth = known(Code.AS4_PATH, bytes.fromhex("0201 fa56ea00"))
    path = known(Code.AS_PATH, bytes.fromhex("0202 0000fde9 fa56ea00"))
    update = read(b"", join([*found, truth]), NET, replace(BOTH, four_octet=False))
    assert update == Update(announced=((Family.IPV4, join([ORIGIN, path, HOP]), NET),))


def test_we_read_what_another_implementation_writes() -> None:
    """Scapy is the witness."""
    attributes = [
        scapy.BGPPathAttr(type_flags=0x40, type_code=1, attribute=scapy.BGPPAOrigin(origin=2)),
        scapy.BGPPathAttr(
            type_flags=0x40,
            type_code=2,
            attribute=scapy.BGPPAAS4BytesPath(
                segments=[scapy.BGPPAAS4BytesPath.ASPathSegment(segment_type=2, segment_value=[65001, 4200000000])]
            ),
        ),
        scapy.BGPPathAttr(type_flags=0x40, type_code=3, attribute=scapy.BGPPANextHop(next_hop="192.0.2.1")),
        scapy.BGPPathAttr(type_flags=0x80, type_code=4, attribute=scapy.BGPPAMultiExitDisc(med=5)),
    ]
    written = scapy.BGPHeader(type=2) / scapy.BGPUpdate(
        withdrawn_routes=[scapy.BGPNLRI_IPv4(prefix="10.1.0.0/24")],
        path_attr=attributes,
        nlri=[scapy.BGPNLRI_IPv4(prefix="10.0.0.0/24")],
    )
    octets = bytes.fromhex("400101 02 40020a 0202 0000fde9 fa56ea00 400304 c0000201 800404 00000005")
    assert read(*fuzzing.parts(bytes(written)), BOTH) == Update(
        withdrawn=((Family.IPV4, OTHER),), announced=((Family.IPV4, octets, NET),)
    )


@given(st.integers(0, 2**64))
def test_what_is_right_is_never_refused(seed: int) -> None:
    """Whatever two speakers may say to each other."""
    rng = Random(seed)
    agreed = fuzzing.some_format(rng)
    update = read(*fuzzing.some_update(rng, agreed), agreed)
    assert not update.malformed
    assert not update.detail
    fuzzing.sound(update, agreed)


@given(st.integers(0, 2**64))
def test_spoiled_updates_are_read_or_end_the_session(seed: int) -> None:
    """Nothing but Notify is ever raised; the target asserts the rest."""
    fuzzing.fuzz_update(Random(seed))


@given(st.binary(max_size=40), st.binary(max_size=100), st.binary(max_size=40), st.integers(0, 2**32))
def test_any_octets_are_read_or_end_the_session(withdrawn: bytes, attributes: bytes, nlri: bytes, seed: int) -> None:
    """The same of what nobody ever meant as an UPDATE."""
    agreed = fuzzing.some_format(Random(seed))
    update = fuzzing.tried(read, withdrawn, attributes, nlri, agreed)
    if isinstance(update, Notify):
        assert update.code == 3
    else:
        fuzzing.sound(update, agreed)
