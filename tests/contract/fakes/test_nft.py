"""The fake of nft, where a contract test cannot look."""

from __future__ import annotations

from ipaddress import ip_address

from appliance.kernel.conntrack_codec import entry_of
from appliance.kernel.fakes.conntrack import FakeConntrack
from appliance.kernel.fakes.nft import FakeNft
from appliance.kernel.fakes.world import FakeWorld
from appliance.model.facts import HOST, Engine, Flow, FlowKey, Instruction, NftSet, NftTable
from appliance.model.marks import Action, Mark
from appliance.state.diff import Change, Plan
from tests.support.flow_body import flow_body


def test_a_new_body_keeps_the_elements_of_sets_that_it_declares() -> None:
    """And drops those of sets that are gone."""
    port = FakeNft(FakeWorld())
    one = NftTable(HOST, "set a { type mark; }\nset b { type mark; }")
    kept, lost = NftSet(HOST, "a", frozenset({"0x00000001"})), NftSet(HOST, "b", frozenset({"0x00000002"}))
    assert (
        port.apply(Plan((Change("create", None, one), Change("create", None, kept), Change("create", None, lost))))
        == ()
    )
    two = NftTable(HOST, "set a { type mark; }")
    assert port.apply(Plan((Change("update", one, two),))) == ()
    assert port.read() == {two, kept}


def test_an_instruction_bumps_the_engine_that_the_live_record_names() -> None:
    """And none while there is no record of the current generation."""
    tracker = FakeConntrack()
    port = FakeNft(FakeWorld(), tracker)
    table, engine = NftTable(HOST, flow_body({1: "80"})), Engine(HOST, 1, "policy")
    assert port.apply(Plan((Change("create", None, table), Change("create", None, engine)))) == ()
    key = FlowKey(ip_address("192.0.2.1"), 1, ip_address("192.0.2.2"), 80, 17)
    stop = Instruction(HOST, key, Action.DENY)
    assert port.apply(Plan((Change("create", None, stop),))) == ()
    assert port.generations(HOST) == {1: 1}
    reply = FlowKey(key.destination, 80, key.source, 1, 17)
    tracker.add(HOST, entry_of(Flow(key, reply, Mark(1, 1, Action.ALLOW).word)))
    assert port.apply(Plan((Change("update", stop, Instruction(HOST, key, Action.REJECT)),))) == ()
    assert port.generations(HOST) == {1: 2}
    assert port.policies(HOST) == {1: "policy"}
