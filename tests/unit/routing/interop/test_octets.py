from __future__ import annotations

import struct
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest

from routing.bgp.attributes import Attribute, Code
from routing.bgp.capabilities import Restart
from routing.bgp.hot import split
from routing.bgp.messages import decode_open
from routing.bgp.update import Format, read
from routing.bgp.values import Family
from routing.interop.octets import Opening, Update, as_path, attribute
from routing.interop.world import P6, Member, P, Q

ME = Member("g/c/a", 12, 4200000012, ip_address("192.0.2.12"))
ME6 = Member("g/c/a", 12, 65012, ip_address("2001:db8::c"), Family.IPV6)
FORMAT = Format(frozenset(Family), internal=False)
MED = attribute(Code.MULTI_EXIT_DISC, "00000007")


def said(octets: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the parts of one UPDATE."""
    found, consumed, fault = split(octets, 65535)
    message: tuple[Any, ...] = found[0]
    assert (consumed, fault) == (len(octets), None)
    _, withdrawn, attributes, nlri = message
    return withdrawn, attributes, nlri


@pytest.mark.parametrize(
    ("update", "me"), [(Update((P, Q), more=(MED,)), ME), (Update((P6,), more=(MED,), family=Family.IPV6), ME6)]
)
def test_an_update_without_changes_is_a_good_one(update: Update, me: Member) -> None:
    """As our own codec sees it."""
    read_ = read(*said(update.octets(me)), FORMAT)
    assert not read_.detail
    assert [family for family, _, _ in read_.announced] == [me.family]


@pytest.mark.parametrize(
    ("change", "detail"), [({Code.ORIGIN: None}, "ORIGIN"), ({Code.ORIGIN: attribute(1, "07")}, "ORIGIN")]
)
def test_what_is_changed_is_wrong_and_nothing_else(change: dict[int, Attribute | None], detail: str) -> None:
    """The route is treated as withdrawn."""
    read_ = read(*said(Update((P,), change=change).octets(ME)), FORMAT)
    assert detail in read_.detail
    assert not read_.announced


def test_withdrawals_stand_in_the_fields_of_their_family() -> None:
    """IPv4 in the old ones, IPv6 in MP_UNREACH_NLRI; without attributes where nothing is announced."""
    assert said(Update(withdrawn=(P,)).octets(ME)) == (b"\x18\x0a\x01\x00", b"", b"")
    withdrawn, attributes, nlri = said(Update(withdrawn=(P6,), family=Family.IPV6).octets(ME6))
    assert (withdrawn, attributes[:2], nlri) == (b"", b"\x80\x0f", b"")


def test_who_knows_two_octets_says_two() -> None:
    """AS_TRANS in the place of what does not fit."""
    assert Update((P,), beyond=(64700,)).attributes(ME, width=2)[Code.AS_PATH].value.hex() == "02025ba0fcbc"


def test_a_long_path_is_cut_into_segments() -> None:
    """A segment has at most 255 numbers."""
    assert [as_path(*range(300)).value[at] for at in (1, 2 + 4 * 255 + 1)] == [255, 45]


def test_of_what_stands_there_twice_the_first_counts() -> None:
    """As RFC 7606 3 g wants it read; both are written."""
    update = Update((P,), more=(attribute(Code.ORIGIN, "02"),))
    assert update.attributes(ME)[Code.ORIGIN].value == b"\0"
    assert update.octets(ME).count(bytes.fromhex("400101")) == 2


def test_a_tail_is_no_attribute() -> None:
    """It stands within the attributes, before the NLRI."""
    withdrawn, attributes, nlri = said(Update((P,), tail=b"\xc0").octets(ME))
    assert (withdrawn, attributes[-1:], nlri) == (b"", b"\xc0", b"\x18\x0a\x01\x00")


@pytest.mark.parametrize("form", ["one", "each", "long"])
def test_an_open_says_the_same_in_every_form(form: str) -> None:
    """Families, route refresh, the AS of four octets, graceful restart."""
    opening = Opening(form=form, extended_message=True, restart=Restart(9, families=((Family.IPV4, True),)))
    found = decode_open(opening.octets(ME)[19:])
    assert (found.asn, found.hold_time, found.families) == (4200000012, 90, frozenset({Family.IPV4}))
    assert found.refresh
    assert found.extended_message
    assert found.restart == Restart(9, families=((Family.IPV4, True),))


def test_an_open_may_say_nothing_or_anything() -> None:
    """No capabilities; another AS, version and identifier; parameters as octets."""
    assert Opening(form="none").octets(ME)[-1:] == b"\0"
    wrong = Opening(version=3, asn=7, identifier=IPv4Address(0), parameters=b"\1\2").octets(ME)
    assert struct.unpack_from("!BHHL", wrong, 19) == (3, 7, 90, 0)
    assert wrong[-2:] == b"\1\2"
