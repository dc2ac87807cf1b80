"""Netlink attributes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.kernel.netlink import (
    attribute,
    be16,
    be32,
    nest,
    parse,
    text,
    to_text,
    to_u32,
    u32,
)
from appliance.model.facts import Namespace

RED = Namespace("red")


@given(st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=300), max_size=9))
def test_what_is_encoded_is_what_is_decoded(attributes: dict[int, bytes]) -> None:
    """Whatever the lengths: padding is no content."""
    buffer = b"".join(attribute(kind, value) for kind, value in attributes.items())
    assert len(buffer) % 4 == 0
    assert {kind: bytes(value) for kind, value in parse(memoryview(buffer)).items()} == attributes


@given(st.binary(max_size=100))
def test_garbage_is_decoded_to_something_and_never_hangs(garbage: bytes) -> None:
    """A length shorter than its own header ends the run."""
    assert all(len(value) <= len(garbage) for value in parse(memoryview(garbage)).values())


def test_numbers_and_texts_have_the_order_their_name_says() -> None:
    """Rtnetlink speaks host order, nfnetlink network order."""
    found = parse(memoryview(nest(1, u32(1, 258), be16(2, 258), be32(3, 258), text(4, "lo"))))
    inner = parse(found[1])
    assert to_u32(inner[1]) == 258
    assert (bytes(inner[2]), bytes(inner[3])) == (b"\1\2", b"\0\0\1\2")
    assert to_text(inner[4]) == "lo"
