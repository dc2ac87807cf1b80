"""Inline edges compiled to facts."""

from __future__ import annotations

from typing import TypeVar

import pytest

from appliance.control.compile import Known, compile_intent
from appliance.model.facts import Engine, Fact, Link, Namespace, Netns, NftTable, Route, Sysctl, Wire
from services.inline.compile import compile_inline, edges_of
from services.inline.names import SIDES, mark
from tests.support.intents import changed, intent
from tests.unit.services.inline.edges import two_wires

EDGE = Namespace("inl-dmz")
FORMS = ("inside", "apart")
F = TypeVar("F", bound=Fact)


def facts(form: str, *kinds: type[F]) -> list[F]:
    """Compile h1 and select kinds."""
    return [fact for fact in compile_inline(intent(two_wires(form=form)), "h1") if isinstance(fact, kinds)]


@pytest.mark.parametrize("form", FORMS)
def test_only_the_host_of_an_edge_has_it(form: str) -> None:
    """And it has it as part of everything else."""
    made = intent(two_wires(form=form))
    assert list(edges_of(made, "h1")) == ["dmz"]
    assert compile_inline(made, "h2") == ()
    assert set(compile_inline(made, "h1")) <= compile_intent(made, "h1").facts


@pytest.mark.parametrize("form", FORMS)
def test_no_two_facts_claim_one_name(form: str) -> None:
    """Across namespaces, devices, tables and programs."""
    keys = [(type(fact), fact.key) for fact in compile_inline(intent(two_wires(form=form)), "h1")]
    assert len(set(keys)) == len(keys)


def test_inside_a_frame_goes_over_its_bridge_with_its_mark() -> None:
    """One bridge a wire, with two ports that learn nothing."""
    made = intent(two_wires()).inline["dmz"]
    assert {fact.name for fact in facts("inside", Netns)} == {EDGE}
    for name, wire in made.bridges.items():
        masters = {link.master for link in facts("inside", Link) if link.name in (wire.north, wire.south)}
        assert len(masters) == 1
        assert {link.name for link in facts("inside", Link) if link.master in masters} == {wire.north, wire.south}
        for side, port in zip(SIDES, (wire.north, wire.south), strict=True):
            assert Wire(EDGE, port, mark(made, name, side)) in facts("inside", Wire)
    assert all(not link.isolated and not link.learning for link in facts("inside", Link) if link.kind == "physical")
    assert {(engine.ns, engine.number) for engine in facts("inside", Engine)} == {(EDGE, 1), (EDGE, 7)}


def test_apart_a_frame_goes_to_its_engine_and_out_of_the_partner_of_its_port() -> None:
    """In by a leg with its mark, over the bridge there, back by the other leg and out of the other port."""
    made, wires = intent(two_wires(form="apart")).inline["dmz"], {wire.key: wire for wire in facts("apart", Wire)}
    links = {link.key: link for link in facts("apart", Link)}
    for name, bridge in made.bridges.items():
        there = Namespace(f"inl-dmz-{bridge.engine}")
        ports = (bridge.north, bridge.south)
        for port, partner, side in zip(ports, reversed(ports), SIDES, strict=True):
            inward = wires[EDGE, port]
            assert (inward.peer, inward.mark) == (True, mark(made, name, side))
            assert inward.to is not None
            arrival = links[EDGE, inward.to].peer
            assert arrival is not None
            assert arrival[0] == there
            bridged = [link for link in links.values() if link.ns == there and link.master == links[arrival].master]
            (exit_,) = (link for link in bridged if link.key != arrival)
            assert exit_.peer is not None
            assert wires[exit_.peer].to == partner
            assert not wires[exit_.peer].peer
    assert all(link.isolated for link in facts("apart", Link) if link.kind == "physical")
    assert {(engine.ns, engine.number) for engine in facts("apart", Engine)} == {
        ("inl-dmz-main", 1),
        ("inl-dmz-other", 7),
    }


@pytest.mark.parametrize("form", FORMS)
def test_netfilter_sees_bridged_packets_where_there_is_a_table_and_nowhere_else(form: str) -> None:
    """A wire itself forwards nothing and says nothing."""
    tables = {table.ns for table in facts(form, NftTable)}
    sysctls = {(sysctl.ns, sysctl.name): sysctl.value for sysctl in facts(form, Sysctl)}
    for netns in facts(form, Netns):
        for family in ("iptables", "ip6tables"):
            assert sysctls[netns.name, f"net.bridge.bridge-nf-call-{family}"] == str(int(netns.name in tables))
        assert sysctls[netns.name, "net.ipv4.ip_forward"] == "0"
        assert sysctls[netns.name, "net.ipv6.conf.all.disable_ipv6"] == "1"
    assert {route.ns for route in facts(form, Route)} == tables


@pytest.mark.parametrize("form", FORMS)
def test_a_port_that_is_held_is_down_and_nothing_else_changes(form: str) -> None:
    """Its program and its bridge stay."""
    made = intent(two_wires(form=form))
    before = set(compile_inline(made, "h1"))
    after = set(compile_intent(made, "h1", Known(held=frozenset({(EDGE, "eth6")}))).facts)
    (gone,) = before - after
    assert isinstance(gone, Link)
    assert (gone.name, gone.up) == ("eth6", True)
    assert [link.name for link in after if isinstance(link, Link) and not link.up] == ["eth6"]


@pytest.mark.parametrize("form", FORMS)
def test_one_more_wire_leaves_the_others_alone(form: str) -> None:
    """Nothing goes or changes, also when its name sorts before theirs."""
    wire = {"north": "eth11", "south": "eth12", "engine": "main"}
    more = changed(two_wires(form=form), "inline.dmz.bridges", {"a0": wire, **two_wires()["inline"]["dmz"]["bridges"]})
    assert set(compile_inline(intent(two_wires(form=form)), "h1")) < set(compile_inline(intent(more), "h1"))
