"""What service nodes say about flows: octets in, octets out."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.errors import InternalError
from appliance.model.facts import FlowKey
from appliance.model.marks import Action
from services.flows.inband import (
    LONGEST,
    Answer,
    Malformed,
    Order,
    Request,
    Status,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)

numbers, ports = st.integers(0, 2**32 - 1), st.integers(0, 65535)


def flows(version: Literal[4, 6]) -> st.SearchStrategy[FlowKey]:
    """Return any flow of an IP version."""
    return st.builds(FlowKey, st.ip_addresses(v=version), ports, st.ip_addresses(v=version), ports, st.integers(0, 255))


requests = st.builds(Request, numbers, st.sampled_from(Order), flows(4) | flows(6))
FLOW = FlowKey(IPv4Address("172.16.1.11"), 40000, IPv4Address("172.16.1.13"), 80, 6)
WRITTEN = bytes.fromhex("4557 01 01 01020304 02 04 06 00 9c40 0050 ac10010b ac10010d")


def test_a_request_has_the_octets_of_the_design() -> None:
    """Others write them by hand."""
    assert encode_request(Request(0x01020304, Order.DENY, FLOW)) == WRITTEN
    assert decode_request(WRITTEN) == Request(0x01020304, Order.DENY, FLOW)


def test_an_answer_has_the_octets_of_the_design() -> None:
    """The number comes back."""
    written = bytes.fromhex("4557 01 02 01020304 02 000000")
    assert encode_answer(Answer(0x01020304, Status.REFUSED)) == written
    assert decode_answer(written) == Answer(0x01020304, Status.REFUSED)


@given(requests)
def test_a_request_that_is_written_is_read_as_it_was(request_: Request) -> None:
    """In at most as many octets as a listener makes room for."""
    octets = encode_request(request_)
    assert decode_request(octets) == request_
    assert len(octets) == (24 if request_.flow.source.version == 4 else LONGEST)


@given(numbers, st.sampled_from(Status))
def test_an_answer_that_is_written_is_read_as_it_was(number: int, status: Status) -> None:
    """And is never taken for a request."""
    octets = encode_answer(Answer(number, status))
    assert decode_answer(octets) == Answer(number, status)
    assert decode_request(octets) == Malformed(None)


@given(st.binary(max_size=60) | st.binary(max_size=52).map(lambda tail: WRITTEN[:4] + tail))
def test_any_octets_are_a_request_that_would_be_written_so_or_malformed(octets: bytes) -> None:
    """Never an exception, and nothing is understood in two ways."""
    found = decode_request(octets)
    assert isinstance(found, Malformed) or encode_request(found) == octets
    answer = decode_answer(octets)
    assert answer is None or encode_answer(answer) == octets


@given(requests, st.data())
def test_a_request_that_is_cut_or_stretched_is_malformed(request_: Request, data: st.DataObject) -> None:
    """With its number, as long as that can be read."""
    octets = encode_request(request_)
    length = data.draw(st.integers(0, 70).filter(lambda length: length != len(octets)))
    wrong = octets[:length].ljust(length, b"\0")
    assert decode_request(wrong) == Malformed(request_.number if length >= 8 else None)


@pytest.mark.parametrize(
    ("at", "value", "number"),
    [
        (0, ord("e"), None),
        (1, 0, None),
        (2, 2, 0x01020304),
        (2, 0, 0x01020304),
        (3, 2, None),
        (3, 3, 0x01020304),
        (8, 4, 0x01020304),
        (9, 5, 0x01020304),
        (9, 6, 0x01020304),
        (11, 1, 0x01020304),
    ],
    ids=[
        "magic",
        "magic's end",
        "later version",
        "version 0",
        "an answer",
        "another kind",
        "another action",
        "IPv5",
        "IPv6 with IPv4 addresses",
        "a flag of later",
    ],
)
def test_an_octet_that_is_not_known_makes_it_malformed(at: int, value: int, number: int | None) -> None:
    """What is no request of any version is not worth an answer; an answer must never be answered."""
    assert decode_request(WRITTEN[:at] + bytes([value]) + WRITTEN[at + 1 :]) == Malformed(number)


def test_a_flow_has_addresses_of_one_kind() -> None:
    """Anything else is our bug."""
    with pytest.raises(InternalError):
        encode_request(Request(1, Order.ALLOW, FlowKey(FLOW.source, 1, IPv6Address("::1"), 2, 6)))


def test_orders_are_actions_that_a_mark_can_hold() -> None:
    """All but the one that takes an order back."""
    actions = {order: order.action for order in Order}
    assert actions == {
        Order.CLEAR: None,
        Order.ALLOW: Action.ALLOW,
        Order.DENY: Action.DENY,
        Order.REJECT: Action.REJECT,
    }
