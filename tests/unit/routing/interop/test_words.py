from __future__ import annotations

import pytest

from routing.bgp.attributes import Attribute, Code
from routing.bgp.notify import Notify
from routing.interop.octets import as_path, attribute
from routing.interop.words import differences, ending, same, shown


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (attribute(8, "0000000100000002"), attribute(8, "0000000200000001"), True),
        (attribute(8, "0000000100000002"), attribute(8, "00000001"), False),
        (attribute(1, "00"), attribute(1, "00", 0x50), True),
        (attribute(1, "00"), attribute(1, "00", 0xC0), False),
        (as_path(1, 2), attribute(2, "020100000001" + "020100000002"), True),
        (as_path(1, 2), as_path(2, 1), False),
        (attribute(17, "020100000001"), attribute(17, "020100000001", 0xE0), True),
        (attribute(213, "01", 0xC0), attribute(213, "01", 0xE0), False),
    ],
)
def test_attributes_are_the_same_if_they_mean_the_same(one: Attribute, other: Attribute, alike: bool) -> None:
    """Sets have no order, segments may be cut, a length has one octet or two."""
    assert same(one, other) is alike


def test_a_difference_is_told_in_words() -> None:
    """What is missing, what is another, what was added."""
    wanted = {1: attribute(1, "00"), 2: as_path(65001), 4: attribute(4, "00000007")}
    found = {1: attribute(1, "00"), 2: as_path(64500, 65001), 8: attribute(8, "fde80001")}
    assert differences(wanted, found, exact=True) == [
        "AS_PATH 64500 65001, not 65001",
        "no MULTI_EXIT_DISC, not 7",
        "COMMUNITIES 65000:1 was added",
    ]
    assert len(differences(wanted, found, exact=False)) == 2


def test_flags_are_told() -> None:
    """The Partial bit by name."""
    pair = {213: attribute(213, "01", 0xE0)}, {213: attribute(213, "01", 0xC0)}
    assert differences(*pair, exact=True) == ["attribute 213 01, not 01 (Partial is not set)"]
    assert differences({1: attribute(1, "00")}, {1: attribute(1, "00", 0xC0)}, exact=True)[0].endswith(
        "(flags c0, not 40)"
    )


@pytest.mark.parametrize(
    ("what", "text"),
    [
        (attribute(3, "c000020c"), "192.0.2.12"),
        (attribute(3, "c0"), "c0"),
        (attribute(14, "00020110" + "20010db8" + "00" * 11 + "0c" + "00"), "2001:db8::c"),
        (attribute(32, "00000001" * 3), "1:1:1"),
        (as_path(*range(1, 20)), "1 2 3 4 5 6 7 8 and 11 more"),
        (as_path(), "empty"),
        (attribute(35, "0000fbf4", 0xC0), "64500"),
        (attribute(Code.AS_PATH, "0909"), "0909"),
    ],
)
def test_values_are_written_as_people_write_them(what: Attribute, text: str) -> None:
    """What cannot be read is shown as octets."""
    assert shown(what) == text


def test_the_end_of_a_connection_is_told() -> None:
    """With its numbers and its name."""
    assert ending(None) == "without NOTIFICATION"
    assert ending(Notify(4)) == "with NOTIFICATION 4/0 (Hold Timer Expired)"
