from __future__ import annotations

from ipaddress import ip_address

import pytest

from services.rules.compile import Stage
from services.rules.elements import MANY, declaration, elements, fields, key, lookups
from services.rules.rule import ANY_ADDRESS, ANY_PORT, ANY_PROTOCOL, Box, Family, Span


def stage(*boxes: Box) -> Stage:
    """Make a stage whose fields have an order of their own."""
    return Stage(("destination", "port", "source", "protocol"), {box: n for n, box in enumerate(boxes, 10)}, {})


def addresses(text: str) -> Span:
    """Read one address or a range."""
    low, _, high = text.partition("-")
    return int(ip_address(low)), int(ip_address(high or low))


def written(family: Family, text: str) -> str:
    """Write a span of addresses in an element."""
    box = Box(ANY_ADDRESS[family], addresses(text), ANY_PROTOCOL, ANY_PORT)
    (element,) = elements(stage(box), family)
    return element.partition(" . ")[0]


def test_an_element_has_the_fields_in_the_order_of_the_stage() -> None:
    """And the number of the set as a mark."""
    one = Box(addresses("10.0.0.1"), addresses("10.1.0.0-10.1.0.255"), (6, 6), (80, 90))
    two = Box(ANY_ADDRESS[4], addresses("10.2.0.1-10.2.0.3"), ANY_PROTOCOL, ANY_PORT)
    assert list(elements(stage(one, two), 4)) == [
        "10.1.0.0/24 . 80-90 . 10.0.0.1 . tcp : 0x0000000a",
        "10.2.0.1-10.2.0.3 . 0-65535 . 0.0.0.0/0 . 0-255 : 0x0000000b",
    ]


@pytest.mark.parametrize(
    ("span", "text"),
    [((58, 58), "ipv6-icmp"), ((253, 253), "253"), ((6, 7), "6-7"), ((0, 127), "0-127"), ((0, 0), "ip")],
)
def test_single_protocols_have_names_and_several_numbers(span: Span, text: str) -> None:
    """As nft prints them."""
    (element,) = elements(stage(Box(ANY_ADDRESS[4], ANY_ADDRESS[4], span, ANY_PORT)), 4)
    assert element.endswith(f" . {text} : 0x0000000a")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("2001:db8::1", "2001:db8::1"),
        ("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0"),
        ("::", "::"),
        ("::-::1", "::/127"),
        ("::1:0", "::0.1.0.0"),
        ("::1:0-::1:5", "::0.1.0.0-::0.1.0.5"),
        ("::ffff", "::ffff"),
        ("::ffff:102:304", "::ffff:1.2.3.4"),
        ("::ffff:0:0-::ffff:ffff:ffff", "::ffff:0.0.0.0/96"),
        ("::1:0:0", "::1:0:0"),
        ("64:ff9b::102:304", "64:ff9b::102:304"),
        ("1:0:3:4:5:6:7:8", "1:0:3:4:5:6:7:8"),
    ],
)
def test_ipv6_addresses_are_written_as_the_c_library_does(given: str, text: str) -> None:
    """Which differs from Python where an IPv4 address is in them."""
    assert written(6, given) == text


def test_a_range_that_is_no_prefix_is_a_range() -> None:
    """Of a size that is no power of two, or not aligned."""
    assert written(4, "10.0.0.1-10.0.0.2") == "10.0.0.1-10.0.0.2"
    assert written(4, "10.0.0.0-10.0.0.2") == "10.0.0.0-10.0.0.2"
    assert written(4, "10.0.0.2-10.0.0.3") == "10.0.0.2/31"
    assert written(4, "128.0.0.0-255.255.255.255") == "128.0.0.0/1"


def test_declaration_and_key_have_the_order_of_the_stage() -> None:
    """Otherwise nft says that the types differ."""
    assert declaration(stage(), "s0", 4) == (
        "map s0 { type ipv4_addr . inet_service . ipv4_addr . inet_proto : mark; flags interval; }"
    )
    assert "type ipv6_addr . inet_service . ipv6_addr . inet_proto" in declaration(stage(), "s0", 6)
    assert key(stage(), 6) == ("ct reply ip6 saddr . ct reply proto-src . ct original ip6 saddr . ct original protocol")


def test_a_look_up_is_one_statement() -> None:
    """For every protocol."""
    (statement,) = lookups(stage(), "s0", 4)
    assert statement == f"meta l4proto {{ tcp, 0-5, 7-255 }} meta mark set {key(stage(), 4)} map @s0"


def many(protocol: Span, destination: Span = ANY_ADDRESS[4], size: int = MANY) -> Stage:
    """Make a stage of so many regions that differ in source and port."""
    return stage(*(Box((n * 256, n * 256 + 255), destination, protocol, (n, n)) for n in range(size)))


@pytest.mark.parametrize(
    ("made", "kept", "condition"),
    [
        (many((17, 17)), ("port", "source"), "ct original protocol udp "),
        (many(ANY_PROTOCOL), ("port", "source"), ""),
        (many((6, 7)), ("port", "source", "protocol"), ""),
        (many((17, 17), (5, 5)), ("destination", "port", "source"), "ct original protocol udp "),
        (many((17, 17), size=MANY - 1), ("destination", "port", "source", "protocol"), ""),
    ],
)
def test_a_large_map_leaves_out_what_tells_nothing(made: Stage, kept: tuple[str, ...], condition: str) -> None:
    """A small one keeps it, so that the table stays when a rule needs it."""
    assert fields(made, 4) == kept
    assert next(elements(made, 4)).count(" . ") == len(kept) - 1
    assert declaration(made, "m", 4).count(" . ") == len(kept) - 1
    (statement,) = lookups(made, "m", 4)
    assert f"}} {condition}meta mark set" in statement


def test_a_map_has_two_fields_at_least() -> None:
    """Those of one are another kind of set."""
    made = stage(*(Box((n, n), ANY_ADDRESS[4], ANY_PROTOCOL, ANY_PORT) for n in range(MANY)))
    assert len(fields(made, 4)) == 2
