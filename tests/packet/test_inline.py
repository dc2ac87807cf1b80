"""Inline edges with real packets between two rows of routers (design 0006)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.packet.rows import FORMS, Rows, exchange, rows, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.worlds import World
    from tests.support.namespaces import Namespaces as Factory

pytestmark = pytest.mark.kernel

#: North may open connections to south's web; nothing else.
WEB = {"id": 1, "rules": [{"action": "allow", "toward": "south", "protocol": "tcp", "ports": [8080]}]}


@pytest.fixture
def edge(world: World, netns_factory: Factory) -> Iterator[Rows]:
    """Give two rows of routers."""
    with rows(world, netns_factory) as made:
        yield made


@pytest.mark.parametrize("form", FORMS)
def test_a_flow_that_uses_two_links_is_one_flow(edge: Rows, form: str) -> None:
    """SYN on link a, SYN-ACK on link b, data on either: one record; each frame leaves by its partner."""
    for name in "ab":
        edge.wire(name)
    edge.apply(tree(form, {"a": "web", "b": "web"}, web=WEB))
    client, server = edge.pair("a")
    edge.road("south", client, "wb", "north")
    taps = {(side, name): edge.tap(side, f"w{name}") for side in ("north", "south") for name in "ab"}
    listener = edge.listen("south", server, 8080)
    one = edge.connect("north", (client, 40000), (server, 8080))
    assert one is not None
    other, _ = listener.accept()
    for number in range(6):
        edge.road("north", server, "wab"[:1] + "ab"[number % 2], "south")
        edge.road("south", client, "w" + "ab"[number // 2 % 2], "north")
        exchange(one, other, b"%d" % number * 100)
    ns = "inl-dmz" if form == "inside" else "inl-dmz-web"
    assert len(edge.entries(ns)) == 1
    for name in "ab":
        assert taps["south", name].senders() == {edge.mac("north", f"w{name}")}
        assert taps["north", name].senders() == {edge.mac("south", f"w{name}")}
