from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.bgp.attributes import encode
from routing.bgp.decision import Standing
from routing.bgp.values import Attributes, Family, Origin, Segment, SegmentType
from routing.bgp.weigh import GRACEFUL_SHUTDOWN
from tests.support.hot import PYTHON, C, Form, attribute, attribute_sets, both_forms, hostile, needs_c, outcome, path

U32 = st.integers(0, 2**32 - 1)
SEGMENTS = st.builds(Segment, st.sampled_from(list(SegmentType)), st.lists(U32, min_size=1, max_size=4).map(tuple))
SETS = st.builds(
    Attributes,
    next_hop=st.sampled_from([IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")]),
    origin=st.sampled_from(list(Origin)),
    as_path=st.lists(SEGMENTS, max_size=3).map(tuple),
    med=st.none() | U32,
    local_pref=st.none() | U32,
    communities=st.lists(st.sampled_from([(1, 2), GRACEFUL_SHUTDOWN, (0, 65535)]), max_size=3).map(tuple),
    originator_id=st.none() | U32.map(IPv4Address),
    cluster_list=st.lists(U32.map(IPv4Address), max_size=3).map(tuple),
)


@both_forms
@given(found=SETS)
def test_the_weight_is_that_of_the_attributes(form: Form, found: Attributes) -> None:
    """What is read in short stands as what was decoded."""
    octets = encode(found, Family.of(found.next_hop))
    local_pref, length, origin, neighbor_as, med, originator, clusters = form.weigh(octets)
    wanted = Standing.of(found, internal=False, router_id=IPv4Address("10.0.0.9"), address=ip_address("192.0.2.9"))
    identifier = int(IPv4Address("10.0.0.9")) if originator < 0 else originator
    after = (False, identifier, clusters, 4, int(IPv4Address("192.0.2.9")))
    assert Standing((True, -local_pref, length, origin), after, neighbor_as, med) == wanted


@both_forms
@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(attribute(0x40, 2, path(1)), id="no ORIGIN"),
        pytest.param(attribute(0x40, 1, b"\0") + attribute(0x40, 2, path(1, kind=3)), id="a confederation"),
        pytest.param(attribute(0x40, 1, b"\0") + attribute(0x40, 2, path(1)[:-1]), id="a path that ends early"),
        pytest.param(attribute(0x40, 1, b"\0") + attribute(0x80, 4, b"\0\0\1"), id="a MED of three octets"),
        pytest.param(attribute(0x40, 1, b"\0") * 2, id="twice"),
        pytest.param(attribute(0x40, 1, b"\0")[:-1], id="an attribute that ends early"),
    ],
)
def test_what_is_not_to_be_read_in_short_is_declined(form: Form, octets: bytes) -> None:
    """The decoder says more about it."""
    assert form.weigh(octets) is None


@needs_c
@given(octets=hostile | attribute_sets())
def test_both_forms_weigh_alike(octets: bytes) -> None:
    """Octets from a neighbour are what the neighbour likes."""
    assert outcome(PYTHON.weigh, octets) == outcome(C.weigh, octets)
