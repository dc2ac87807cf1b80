from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import IPv4Address
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.bgp import messages
from routing.bgp.messages import Notify, Open, Restart
from routing.bgp.values import Family
from tests.support import fuzzing

with pytest.MonkeyPatch.context() as patch:
    patch.setattr("logging.Logger.warning", lambda *_: None)  # it complains about being asked anything at all
    from scapy.contrib import bgp as scapy

SAID = Open(65001, 90, IPv4Address("10.0.0.1"), frozenset(Family), four_octet=True, refresh=True)
FIXED = struct.pack("!BHH4s", 4, 65001, 90, IPv4Address("10.0.0.1").packed)
FOUR_OCTET = bytes.fromhex("4104 fa56ea01")


def body(*parameters: tuple[int, bytes], fixed: bytes = FIXED) -> bytes:
    """Write the body of an OPEN with optional parameters."""
    octets = b"".join(bytes((kind, len(value))) + value for kind, value in parameters)
    return fixed + bytes((len(octets),)) + octets


def extended(*parameters: tuple[int, bytes], before: int = 255) -> bytes:
    """Write the body of an OPEN with the long form of RFC 9072."""
    octets = b"".join(struct.pack("!BH", kind, len(value)) + value for kind, value in parameters)
    return FIXED + bytes((before, 255)) + struct.pack("!H", len(octets)) + octets


def test_an_open_is_written_as_rfc_4271_has_it() -> None:
    """Header, fixed part, one parameter with all capabilities."""
    assert messages.encode_open(SAID) == (
        b"\xff" * 16
        + bytes.fromhex("0033 01")
        + bytes.fromhex("04 fde9 005a 0a000001 16")
        + bytes.fromhex("0214 010400010001 010400020001 0200 41040000fde9")
    )


def test_an_as_number_of_four_octets_has_a_stand_in() -> None:
    """RFC 6793 4.2.1: AS_TRANS in the old field, the truth in the capability."""
    written = messages.encode_open(replace(SAID, asn=4200000001))
    assert written[20:22] == (23456).to_bytes(2, "big")
    assert messages.decode_open(written[19:]).asn == 4200000001


@given(st.integers(min_value=0))
def test_an_open_is_read_as_it_was_written(seed: int) -> None:
    """Whatever we could offer."""
    said = fuzzing.some_open(Random(seed))
    assert messages.decode_open(messages.encode_open(said)[19:]) == said


def test_an_open_without_capabilities_offers_ipv4_and_nothing_else() -> None:
    """RFC 4760 8 is for those who say so."""
    said = messages.decode_open(body())
    assert said == Open(65001, 90, IPv4Address("10.0.0.1"), frozenset({Family.IPV4}))
    assert messages.encode_open(replace(said, families=frozenset()))[19:] == FIXED + b"\0"


def test_multiprotocol_capabilities_are_all_there_is() -> None:
    """Who names IPv6 alone does not offer IPv4."""
    assert messages.decode_open(body((2, b"\1\4\0\2\0\1"))).families == frozenset({Family.IPV6})
    assert messages.decode_open(body((2, b"\1\4\0\1\0\x80"))).families == frozenset()


def test_capabilities_may_be_spread_over_parameters() -> None:
    """RFC 5492 4: one parameter each, or all in one, or anything between."""
    one = messages.decode_open(body((2, b"\1\4\0\1\0\1\2\0" + FOUR_OCTET)))
    several = messages.decode_open(body((2, b"\1\4\0\1\0\1"), (2, b""), (2, b"\2\0" + FOUR_OCTET), (2, FOUR_OCTET)))
    assert one == several
    assert one.asn == 4200000001


@pytest.mark.parametrize("before", [255, 1, 20])
def test_a_long_open_is_understood(before: int) -> None:
    """RFC 9072 2: the type 255 says so, and the length before it "MUST be ignored on receipt"."""
    many = bytes((99, 200)) + bytes(200)
    said = messages.decode_open(extended((2, many + many), (2, FOUR_OCTET), before=before))
    assert said.asn == 4200000001


@pytest.mark.parametrize(
    ("octets", "notify"),
    [
        (b"", Notify(2, 0)),
        (FIXED, Notify(2, 0)),
        (FIXED + b"\1", Notify(2, 0)),
        (FIXED + b"\3\2\1", Notify(2, 0)),
        (FIXED + b"\3\2\4\2", Notify(2, 0)),
        (FIXED + b"\1\2", Notify(2, 0)),
        (FIXED + b"\0\0", Notify(2, 0)),
        (extended()[:-1], Notify(2, 0)),
        (extended((2, b""))[:-1], Notify(2, 0)),
        (extended() + b"\2", Notify(2, 0)),
        (FIXED + b"\0\xff\0\0", Notify(2, 0)),
        (body(fixed=b"\3" + FIXED[1:]), Notify(2, 1, b"\0\4")),
        (body(fixed=b"\5" + FIXED[1:]), Notify(2, 1, b"\0\4")),
        (body(fixed=FIXED[:5] + bytes(4)), Notify(2, 3)),
        (body((1, b"\0secret")), Notify(2, 4)),
        (body((2, b""), (255, b"")), Notify(2, 4)),
        (extended((255, b"")), Notify(2, 4)),
        (body(fixed=FIXED[:3] + b"\0\1" + FIXED[5:]), Notify(2, 6)),
        (body(fixed=FIXED[:3] + b"\0\2" + FIXED[5:]), Notify(2, 6)),
        (body((2, b"\1\4\0\1\0")), Notify(2, 0)),
        (body((2, b"\x41\2\0\1")), Notify(2, 0)),
    ],
)
def test_an_open_that_cannot_be_accepted_says_why(octets: bytes, notify: Notify) -> None:
    """RFC 4271 6.2, with the data that it wants."""
    with pytest.raises(Notify) as caught:
        messages.decode_open(octets)
    assert caught.value == notify
    assert caught.value.text.startswith("OPEN Message Error")


def test_no_hold_time_is_a_hold_time() -> None:
    """RFC 4271 4.2: "MUST be either zero or at least three seconds"."""
    assert messages.decode_open(body(fixed=FIXED[:3] + b"\0\0" + FIXED[5:])).hold_time == 0
    assert messages.decode_open(body(fixed=FIXED[:3] + b"\0\3" + FIXED[5:])).hold_time == 3


def test_a_restart_may_name_no_family() -> None:
    """RFC 4724 4: who only helps others, or says no more than End-of-RIB."""
    assert messages.decode_open(body((2, b"\x40\2\x80\0"))).restart == Restart(0, restarting=True)


def test_a_keepalive_is_a_header() -> None:
    """RFC 4271 4.4."""
    assert messages.KEEPALIVE_MESSAGE == b"\xff" * 16 + b"\0\x13\4"


def test_a_notification_is_read_as_it_was_written() -> None:
    """Code, subcode, data."""
    written = messages.encode_notification(Notify(6, 2, b"\2hi"))
    assert written == b"\xff" * 16 + b"\0\x18\3" + b"\6\2\2hi"
    assert messages.decode_notification(written[19:]) == Notify(6, 2, b"\2hi")
    assert str(messages.decode_notification(written[19:])) == 'Cease / Administrative Shutdown: "hi"'


def test_a_notification_has_room_in_any_message() -> None:
    """What is wrong may be as long as 65535 octets (RFC 8654), what is said about it may not."""
    written = messages.encode_notification(Notify(3, 9, bytes(5000)))
    assert len(written) == 4096
    assert written[16:18] == (4096).to_bytes(2, "big")


@pytest.mark.parametrize("octets", [b"", b"\6"])
def test_half_a_notification_is_the_end_as_well(octets: bytes) -> None:
    """RFC 4271 6.4: there is nobody to tell."""
    assert messages.decode_notification(octets).text == "a NOTIFICATION without code and subcode"


def test_a_refresh_is_read_as_it_was_written() -> None:
    """RFC 2918 3, with the subtypes of RFC 7313."""
    assert messages.encode_refresh(Family.IPV6, 1) == b"\xff" * 16 + b"\0\x17\5" + b"\0\2\1\1"
    for family in Family:
        for subtype in (0, 1, 2, 255):
            assert messages.decode_refresh(messages.encode_refresh(family, subtype)[19:]) == (family, subtype)


def test_a_refresh_of_a_strange_family_names_none() -> None:
    """RFC 2918 4: to be ignored."""
    assert messages.decode_refresh(b"\0\1\0\x80") == (None, 0)


@pytest.mark.parametrize("octets", [b"", b"\0\1\0", b"\0\1\0\1\0"])
def test_a_refresh_of_a_wrong_length_ends_the_session(octets: bytes) -> None:
    """RFC 7313 5: the data is the whole message."""
    with pytest.raises(Notify) as caught:
        messages.decode_refresh(octets)
    assert caught.value == Notify(7, 1, messages.message(5, octets))


def test_another_implementation_reads_what_we_write() -> None:
    """Scapy is the witness."""
    opened = scapy.BGP(messages.encode_open(SAID))
    assert (opened.type, opened.my_as, opened.hold_time, opened.bgp_id) == (1, 65001, 90, "10.0.0.1")
    ended = scapy.BGP(messages.encode_notification(messages.shutdown(2, "hi")))
    assert (ended.type, ended.error_code, ended.error_subcode, ended.data) == (3, 6, 2, b"\2hi")
    asked = scapy.BGP(messages.encode_refresh(Family.IPV6, 2))
    assert (asked.type, asked.afi, asked.subtype, asked.safi) == (5, 2, 2, 1)
    assert scapy.BGP(messages.KEEPALIVE_MESSAGE).type == 4


def test_we_read_what_another_implementation_writes() -> None:
    """Scapy again, one parameter for each capability as older routers do."""
    parameters = [
        scapy.BGPOptParam(param_type=2, param_value=scapy.BGPCapMultiprotocol(afi=2, safi=1)),
        scapy.BGPOptParam(param_type=2, param_value=scapy.BGPCapFourBytesASN(asn=4200000001)),
    ]
    written = bytes(scapy.BGPOpen(my_as=23456, hold_time=30, bgp_id="192.0.2.9", opt_params=parameters))
    assert messages.decode_open(written) == Open(
        4200000001, 30, IPv4Address("192.0.2.9"), frozenset({Family.IPV6}), four_octet=True
    )


@given(st.integers(min_value=0))
@pytest.mark.parametrize("target", [fuzzing.fuzz_open, fuzzing.fuzz_notification, fuzzing.fuzz_refresh])
def test_spoiled_messages_are_read_or_refused(target: fuzzing.Target, seed: int) -> None:
    """Nothing but Notify is ever raised; the target asserts the rest."""
    target(Random(seed))


@given(st.binary(max_size=80))
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    """The same of what nobody ever meant as a message."""
    for decode in (messages.decode_open, messages.decode_notification, messages.decode_refresh):
        said = fuzzing.tried(decode, octets)
        assert not isinstance(said, Notify) or str(said).isprintable()
