"""Changes of routes as columns, and columns as messages: both forms say the same."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import sysconfig
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.kernel import routecolumns
from appliance.kernel.routecolumns import number
from appliance.model.facts import HOST, Hop, Network, Route
from appliance.model.marks import PROTO_BGP, PROTO_BOX
from appliance.state.diff import Change

if TYPE_CHECKING:
    from appliance.kernel.routecolumns import RouteChange, Row

try:
    from appliance.kernel import _routecolumns as compiled
except ImportError:
    compiled = None  # type: ignore[assignment] # it is built where there is a compiler

ROOT = Path(__file__).resolve().parents[4]
PYTHON = SimpleNamespace(gather=routecolumns._gather, fill=routecolumns._fill)
C: Any = compiled
needs_c = pytest.mark.skipif(compiled is None, reason="appliance.kernel._routecolumns is not built")
both_forms = pytest.mark.parametrize(
    "form", [pytest.param(PYTHON, id="python"), pytest.param(C, id="c", marks=needs_c)]
)


def networks(kind: type[IPv4Network | IPv6Network], width: int) -> st.SearchStrategy[Network]:
    """Make networks of one family; the first and last lengths, and those about half an address, come often."""
    lengths = st.sampled_from((0, 1, 24, 31, 32, width // 2 - 1, width // 2, width // 2 + 1, width - 1, width))
    return st.builds(lambda bits, length: kind((bits, length), strict=False), st.integers(0, 2**width - 1), lengths)


destinations = networks(IPv4Network, 32) | networks(IPv6Network, 128)
#: The same tuples again and again, and others that equal them.
shared = ((Hop("a0"),), (Hop("a0", IPv6Address("fe80::2")), Hop("b0")))
hops = st.sampled_from(shared) | st.builds(lambda: (Hop("a0"),))
routes = st.builds(
    Route,
    st.just(HOST),
    destinations,
    hops,
    st.sampled_from([PROTO_BGP, PROTO_BOX]),
    st.sampled_from([None, 1400, 9000]),
)
changes = st.one_of(
    st.builds(lambda route: Change("create", None, route), routes),
    st.builds(lambda route: Change("delete", route, None), routes),
    st.builds(
        lambda old, new: Change("update", Route(HOST, new.destination, old.hops, new.proto, old.mtu), new),
        routes,
        routes,
    ),
)


def test_the_c_form_is_built_where_it_can_be() -> None:
    """`make setup` does it: tests that skip the C form for want of it must not hide that it is not there."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    assert C is not None or compiler is None or not headers.exists()


def taken(program: str, **environment: str) -> str:
    """Ask a new process which form it took."""
    program += "from appliance.kernel import routecolumns as c; print(c.gather.__module__, c.fill.__module__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@needs_c
def test_the_c_form_is_taken_if_it_is_there() -> None:
    """Unless the environment asks for the reference, or it is not there."""
    python, c = " ".join(["appliance.kernel.routecolumns"] * 2), " ".join(["appliance.kernel._routecolumns"] * 2)
    assert taken("", EDGEWAY_PURE="") == c
    assert taken("", EDGEWAY_PURE="1") == python
    assert taken("import sys; sys.modules['appliance.kernel._routecolumns'] = None\n", EDGEWAY_PURE="") == python


@given(st.sets(destinations))
def test_no_two_prefixes_of_a_family_have_one_number(some: set[Network]) -> None:
    """Not even if they begin alike and differ in their lengths."""
    assert len({(one.version, number(one)) for one in some}) == len(some)


def test_the_numbers_of_neighbours_follow_each_other() -> None:
    """A dictionary sees their last bits first."""
    first, second = (number(ip_network(f"2001:db8:{n}::/48")) for n in (4, 5))
    assert second == first + 1


@both_forms
@given(some=st.lists(changes))
def test_every_change_is_in_the_row_of_its_kind_in_order(form: Any, some: list[RouteChange]) -> None:
    """With the columns that follow from it."""
    rows: list[Row] = form.gather(some)
    found = []
    for work, proto, version, length, hops, mtu, told, facts, octets, numbers in rows:
        assert facts == [change.fact for change in told]
        assert octets == b"".join(fact.destination.network_address.packed for fact in facts)
        assert numbers == [number(fact.destination) for fact in facts]
        for change in told:
            old, new, network = change.old, change.new, change.fact.destination
            assert (change.fact.proto, network.version, network.prefixlen) == (proto, version, length)
            assert (hops, mtu) == (((), None) if new is None else (new.hops, new.mtu))
            assert new is None or hops is new.hops
            moves = new is not None and old is not None and old.mtu == new.mtu
            assert work == ("delete" if new is None else "move" if moves else "put")
        places = [place for place, change in enumerate(some) if any(change is one for one in told)]
        assert len(places) == len({id(change) for change in told})
        found += told
    assert sorted(map(id, found)) == sorted(map(id, some))
    assert len({(*row[:4], id(row[4]), row[5]) for row in rows}) == len(rows)


@needs_c
@given(st.lists(changes))
def test_both_forms_gather_the_same(some: list[RouteChange]) -> None:
    """In the same order."""
    assert C.gather(some) == PYTHON.gather(some)
    assert C.gather(tuple(some)) == PYTHON.gather(some)


@needs_c
@pytest.mark.parametrize(
    "wrong",
    [
        [None],
        [Change("create", None, None)],
        [Change("create", None, SimpleNamespace(destination=None, hops=(), mtu=None, proto=1))],
        [
            Change(
                "create",
                None,
                SimpleNamespace(
                    hops=(),
                    mtu=None,
                    proto=1,
                    destination=SimpleNamespace(version=4, _prefixlen=64, network_address=SimpleNamespace(_ip=1)),
                ),
            )
        ],
    ],
)
def test_what_is_no_change_of_a_route_is_refused(wrong: list[Any]) -> None:
    """By an exception, whatever else its objects have."""
    with pytest.raises((AttributeError, ValueError)):
        C.gather(wrong)


@needs_c
def test_an_address_that_is_none_is_refused() -> None:
    """A negative one, one of too many bits, one that is no number."""
    for ip in (-1, 1 << 32, "1", None):
        network = SimpleNamespace(version=4, _prefixlen=24, network_address=SimpleNamespace(_ip=ip))
        route: Any = SimpleNamespace(destination=network, hops=(), mtu=None, proto=1)
        with pytest.raises((OverflowError, TypeError, ValueError)):
            C.gather([Change("create", None, route)])


@both_forms
@given(
    rest=st.binary(max_size=5).map(lambda octets: octets * 4),
    addresses=st.lists(st.binary(min_size=16, max_size=16), max_size=5),
    sequence=st.integers(0, 2**32 - 10),
)
def test_messages_differ_in_number_and_destination_alone(
    form: Any, rest: bytes, addresses: list[bytes], sequence: int
) -> None:
    """The one at the ninth octet, the other at the 33rd."""
    template = bytes(range(48)) + rest
    expected = [
        template[:8] + struct.pack("=I", sequence + place) + template[12:32] + address + template[48:]
        for place, address in enumerate(addresses)
    ]
    packed = form.fill(template, bytearray().join(addresses), 16, sequence)
    assert packed == b"".join(expected)
    assert isinstance(packed, bytearray)


@needs_c
@pytest.mark.parametrize(
    ("template", "octets", "size"), [(bytes(36), bytes(5), 4), (bytes(35), bytes(4), 4), (bytes(36), bytes(4), 0)]
)
def test_what_does_not_fit_is_refused(template: bytes, octets: bytes, size: int) -> None:
    """Nothing is written beside a message."""
    with pytest.raises(ValueError, match="no address is of such a size"):
        C.fill(template, octets, size, 1)
