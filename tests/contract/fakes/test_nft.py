"""The fake of nft, where a contract test cannot look."""

from __future__ import annotations

from appliance.kernel.fakes.nft import FakeNft
from appliance.kernel.fakes.world import FakeWorld
from appliance.model.facts import HOST, NftSet, NftTable
from appliance.state.diff import Change, Plan


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
