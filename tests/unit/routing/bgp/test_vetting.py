from __future__ import annotations

from ipaddress import ip_address

import pytest

from routing.bgp.attributes import Attribute, Code, known
from routing.bgp.notify import Notify
from routing.bgp.vetting import describe, is_host, vet

ORIGIN = known(Code.ORIGIN, b"\0")


def judged(
    *found: Attribute, internal: bool = False, four_octet: bool = True
) -> tuple[list[Attribute], list[int], list[str]]:
    """Vet, and return what stays, the subcodes of the faults, and what was discarded."""
    kept, faults, discarded = vet(found, internal=internal, four_octet=four_octet)
    return kept, [fault.subcode for fault in faults], discarded


def octets(text: str) -> bytes:
    """Read octets."""
    return bytes.fromhex(text)


GOOD = [
    (Code.ORIGIN, "00"),
    (Code.ORIGIN, "02"),
    (Code.AS_PATH, ""),
    (Code.AS_PATH, "0201 0000fde9 0102 00000001 00000002"),
    (Code.NEXT_HOP, "c0000201"),
    (Code.MULTI_EXIT_DISC, "00000000"),
    (Code.ATOMIC_AGGREGATE, ""),
    (Code.AGGREGATOR, "0000fde9 c0000201"),
    (Code.COMMUNITIES, "00010002 00010002"),
    (Code.EXTENDED_COMMUNITIES, "0002fde800000003"),
    (Code.LARGE_COMMUNITIES, "000000010000000200000003"),
]
OF_OUR_OWN = [
    (Code.LOCAL_PREF, "00000064"),
    (Code.ORIGINATOR_ID, "0a000001"),
    (Code.CLUSTER_LIST, "0a000001 0a000002"),
]
# Every attribute with what RFC 7606 7 (and 8092 6) calls malformed, and the subcode that RFC 4271 6.3 has for it.
WITHDRAWN = [
    (Code.ORIGIN, "", 5),
    (Code.ORIGIN, "0000", 5),
    (Code.ORIGIN, "03", 6),
    (Code.AS_PATH, "0301 00000001", 11),
    (Code.AS_PATH, "0201 00000000", 11),
    (Code.AS_PATH, "0201 0001", 11),
    (Code.AS_PATH, "0200", 11),
    (Code.NEXT_HOP, "", 5),
    (Code.NEXT_HOP, "c00002", 5),
    (Code.NEXT_HOP, "20010db8000000000000000000000001", 5),
    (Code.NEXT_HOP, "00000000", 8),
    (Code.NEXT_HOP, "e0000001", 8),
    (Code.MULTI_EXIT_DISC, "000000", 5),
    (Code.COMMUNITIES, "", 5),
    (Code.COMMUNITIES, "000102", 5),
    (Code.EXTENDED_COMMUNITIES, "", 5),
    (Code.EXTENDED_COMMUNITIES, "00010002", 5),
    (Code.LARGE_COMMUNITIES, "", 5),
    (Code.LARGE_COMMUNITIES, "0000000100000002", 5),
]
OF_OUR_OWN_WITHDRAWN = [
    (Code.LOCAL_PREF, "", 5),
    (Code.LOCAL_PREF, "0000000064", 5),
    (Code.ORIGINATOR_ID, "0a0000", 5),
    (Code.CLUSTER_LIST, "", 5),
    (Code.CLUSTER_LIST, "0a00", 5),
]
DISCARDED = [
    (Code.ATOMIC_AGGREGATE, "00"),
    (Code.AGGREGATOR, ""),
    (Code.AGGREGATOR, "fde9 c0000201"),
    (Code.AGGREGATOR, "00000000 c0000201"),
    (Code.AS4_PATH, "0201 0000fde9"),
    (Code.AS4_AGGREGATOR, "0000fde9 c0000201"),
]


@pytest.mark.parametrize(("code", "value"), GOOD)
@pytest.mark.parametrize("internal", [False, True])
def test_what_is_right_stays_as_it_is(code: Code, value: str, internal: bool) -> None:
    """From whomever it comes."""
    attribute = known(code, octets(value))
    assert judged(ORIGIN, attribute, internal=internal)[0] == [ORIGIN, attribute]
    assert judged(attribute, internal=internal)[1:] == ([], [])


@pytest.mark.parametrize(("code", "value", "subcode"), WITHDRAWN)
@pytest.mark.parametrize("internal", [False, True])
def test_what_is_malformed_takes_the_routes_with_it(code: Code, value: str, subcode: int, internal: bool) -> None:
    """RFC 7606 7: treat-as-withdraw; the rest of the attributes is judged none the less."""
    kept, faults, discarded = judged(known(code, octets(value)), known(Code.COMMUNITIES, bytes(4)), internal=internal)
    assert faults == [subcode]
    assert [attribute.code for attribute in kept] == [Code.COMMUNITIES]
    assert not discarded


@pytest.mark.parametrize(("code", "value"), OF_OUR_OWN)
def test_what_only_an_internal_neighbour_may_say_is_discarded_from_others(code: Code, value: str) -> None:
    """RFC 7606 7.5, 7.9, 7.10."""
    attribute = known(code, octets(value))
    assert judged(attribute, internal=True) == ([attribute], [], [])
    kept, faults, discarded = judged(attribute)
    assert not kept
    assert not faults
    assert discarded == [f"{describe(attribute)} from an external neighbour"]


@pytest.mark.parametrize(("code", "value", "subcode"), OF_OUR_OWN_WITHDRAWN)
def test_it_must_be_right_from_an_internal_neighbour(code: Code, value: str, subcode: int) -> None:
    """And does not matter at all from another one."""
    attribute = known(code, octets(value))
    assert judged(attribute, internal=True)[1] == [subcode]
    assert judged(attribute)[1] == []
    assert judged(attribute._replace(flags=0))[1] == []


@pytest.mark.parametrize(("code", "value"), DISCARDED)
def test_what_does_not_change_the_choice_of_a_route_goes_alone(code: Code, value: str) -> None:
    """RFC 7606 3 f: attribute discard. RFC 6793 4.1: AS4_ from one who needs it not."""
    kept, faults, discarded = judged(ORIGIN, known(code, octets(value)))
    assert kept == [ORIGIN]
    assert not faults
    assert code.name in discarded[0]


@pytest.mark.parametrize(("code", "value"), GOOD)
@pytest.mark.parametrize("wrong", [0x80, 0x40, 0xC0])
def test_wrong_flags_take_the_routes_with_them(code: Code, value: str, wrong: int) -> None:
    """RFC 7606 3 c: of optional and transitive, of any attribute."""
    right = known(code, octets(value))
    assert judged(right._replace(flags=right.flags ^ wrong))[1] == [4]


@pytest.mark.parametrize("code", [Code.AS4_PATH, Code.AS4_AGGREGATOR])
def test_nobody_looks_at_the_flags_of_what_is_discarded(code: Code) -> None:
    """Between speakers of four octets it is discarded whatever it is."""
    assert judged(Attribute(0, code, b""))[:2] == ([], [])


def test_flags_that_mean_nothing_are_cleared() -> None:
    """The lower four, and Partial where an attribute cannot have passed anybody who did not know it."""
    found = [
        Attribute(0x6F, Code.ORIGIN, b"\0"),
        Attribute(0xBF, Code.MULTI_EXIT_DISC, bytes(4)),
        Attribute(0xFF, Code.COMMUNITIES, bytes(4)),
        Attribute(0xCF, 99, b""),
    ]
    assert [attribute.flags for attribute in judged(*found)[0]] == [0x40, 0x90, 0xF0, 0xE0]


def test_a_stranger_is_passed_on_if_it_wants_to() -> None:
    """RFC 4271 5: unknown, optional, transitive: with Partial set."""
    assert judged(Attribute(0xC0, 99, b"x"))[0] == [Attribute(0xE0, 99, b"x")]
    assert judged(Attribute(0xF0, 99, b""))[0] == [Attribute(0xF0, 99, b"")]


def test_a_stranger_is_dropped_if_it_does_not() -> None:
    """RFC 4271 5: "quietly ignored"."""
    assert judged(Attribute(0x80, 99, b"x")) == ([], [], [])


@pytest.mark.parametrize("flags", [0x40, 0x00])
def test_a_stranger_that_claims_to_be_well_known_ends_the_session(flags: int) -> None:
    """RFC 4271 6.3, and RFC 7606 3 names no other way; the data is the attribute."""
    with pytest.raises(Notify, match="attribute 99") as caught:
        judged(Attribute(flags, 99, b"x"))
    assert caught.value == Notify(3, 2, bytes((flags, 99, 1)) + b"x")


def test_large_communities_are_there_once() -> None:
    """RFC 8092 3: "MUST silently remove redundant" ones."""
    one, two = octets("000000010000000200000003"), octets("000000040000000500000006")
    kept, _, discarded = judged(known(Code.LARGE_COMMUNITIES, two + one + two))
    assert kept == [known(Code.LARGE_COMMUNITIES, two + one)]
    assert not discarded


def test_a_fault_says_what_a_notification_would() -> None:
    """RFC 4271 6.3: the data is the attribute."""
    _, [fault], _ = vet([known(Code.ORIGIN, b"\7")], internal=False, four_octet=True)
    assert fault.notify() == Notify(3, 6, octets("400101 07"))
    assert fault.notify().text == "UPDATE Message Error: ORIGIN [40 07]: the value is undefined"


def test_a_description_is_short() -> None:
    """However long the value is."""
    assert describe(Attribute(0xC0, 99, bytes(1000))) == f"attribute 99 [c0 {'00' * 24}...]"
    assert describe(known(Code.AS_PATH, b"")) == "AS_PATH [40 empty]"


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("192.0.2.1", True),
        ("1.0.0.0", True),
        ("223.255.255.255", True),
        ("169.254.0.1", True),
        ("0.0.0.0", False),
        ("0.1.2.3", False),
        ("127.0.0.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("2001:db8::1", True),
        ("fe80::1", True),
        ("::ffff:192.0.2.1", True),
        ("::", False),
        ("::1", False),
        ("ff02::1", False),
    ],
)
def test_a_next_hop_is_the_address_of_a_host(address: str, host: bool) -> None:
    """RFC 4271 6.3."""
    assert is_host(ip_address(address).packed) is host


# --- from a speaker that knows AS numbers of two octets ---


def old(code: Code, value: str) -> Attribute:
    """Make an attribute."""
    return known(code, octets(value))


def test_two_octets_become_four() -> None:
    """The path and the aggregator, in their places."""
    found = [old(Code.ORIGIN, "00"), old(Code.AS_PATH, "0202 fde9 0001"), old(Code.AGGREGATOR, "fde9 c0000201")]
    assert judged(*found, four_octet=False) == (
        [ORIGIN, old(Code.AS_PATH, "0202 0000fde9 00000001"), old(Code.AGGREGATOR, "0000fde9 c0000201")],
        [],
        [],
    )


def test_the_truth_comes_beside() -> None:
    """RFC 6793 4.2.3: AS4_PATH behind the numbers that old speakers prepended, AS4_AGGREGATOR for AS_TRANS."""
    found = [
        old(Code.AS_PATH, "0203 fde9 5ba0 0001"),
        old(Code.AGGREGATOR, "5ba0 c0000201"),
        old(Code.AS4_PATH, "0202 fa56ea00 00000001"),
        old(Code.AS4_AGGREGATOR, "fa56ea00 c0000202"),
    ]
    assert judged(*found, four_octet=False) == (
        [old(Code.AS_PATH, "0203 0000fde9 fa56ea00 00000001"), old(Code.AGGREGATOR, "fa56ea00 c0000202")],
        [],
        [],
    )


def test_an_aggregator_that_is_no_stand_in_makes_the_rest_out_of_date() -> None:
    """RFC 6793 4.2.3: an old speaker aggregated; both of the new attributes "SHALL be ignored"."""
    found = [
        old(Code.AS_PATH, "0202 fde9 5ba0"),
        old(Code.AGGREGATOR, "fde9 c0000201"),
        old(Code.AS4_PATH, "0201 fa56ea00"),
        old(Code.AS4_AGGREGATOR, "fa56ea00 c0000202"),
    ]
    assert judged(*found, four_octet=False)[0] == [
        old(Code.AS_PATH, "0202 0000fde9 00005ba0"),
        old(Code.AGGREGATOR, "0000fde9 c0000201"),
    ]


def test_the_truth_alone_is_no_aggregator() -> None:
    """AS4_AGGREGATOR without AGGREGATOR says nothing."""
    assert judged(old(Code.AS4_AGGREGATOR, "fa56ea00 c0000202"), four_octet=False) == ([], [], [])
    assert judged(old(Code.AS4_PATH, "0201 fa56ea00"), four_octet=False) == ([], [], [])


@pytest.mark.parametrize(
    ("code", "value"),
    [
        (Code.AS4_PATH, "02"),
        (Code.AS4_PATH, "0201 0001"),
        (Code.AS4_PATH, "0701 00000001"),
        (Code.AS4_PATH, "0201 00000000"),
        (Code.AS4_AGGREGATOR, "5ba0 c0000202"),
        (Code.AS4_AGGREGATOR, "00000000 c0000202"),
        (Code.AGGREGATOR, "0000fde9 c0000201"),
        (Code.AGGREGATOR, "0000 c0000201"),
    ],
)
def test_a_truth_that_is_malformed_is_discarded(code: Code, value: str) -> None:
    """RFC 6793 6, RFC 7607 2; what is left of the path is AS_PATH."""
    kept, faults, discarded = judged(old(Code.AS_PATH, "0202 fde9 5ba0"), old(code, value), four_octet=False)
    assert kept == [old(Code.AS_PATH, "0202 0000fde9 00005ba0")]
    assert not faults
    assert len(discarded) == 1


def test_a_confederation_within_the_truth_is_left_out() -> None:
    """RFC 6793 6: "discard these path segments", and go on."""
    found = [old(Code.AS_PATH, "0202 fde9 5ba0"), old(Code.AS4_PATH, "0301 00000007 0201 fa56ea00")]
    assert judged(*found, four_octet=False)[0] == [old(Code.AS_PATH, "0202 0000fde9 fa56ea00")]


def test_a_path_of_two_octets_must_be_right_as_well() -> None:
    """One that is right in four octets is not."""
    assert judged(old(Code.AS_PATH, "0201 0000fde9"), four_octet=False)[1] == [11]
    assert judged(old(Code.AS_PATH, "0201 0000"), four_octet=False)[1] == [11]
