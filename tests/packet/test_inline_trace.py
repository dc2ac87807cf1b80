"""What `edgeway trace` says about a flow on a wire is what the kernel does."""

from __future__ import annotations

import random
import socket
from typing import TYPE_CHECKING

import pytest

from appliance.control.flow_desk import FlowDesk
from appliance.control.flow_trace import trace
from appliance.control.instructions import Instructions
from appliance.model.facts import Namespace
from appliance.model.marks import Action, Mark
from services.feature import Runtime
from tests.packet.rows import Rows, rows, tree
from tests.support.intents import Tree, intent
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.worlds import World
    from tests.support.namespaces import Namespaces as Factory

pytestmark = pytest.mark.kernel

DMZ = Namespace("inl-dmz")
PORTS = (53, 80, 443, 8080)
REFUSALS = ("denied", "rejected")


@pytest.fixture
def edge(world: World, netns_factory: Factory) -> Iterator[Rows]:
    """Give two rows of routers."""
    with rows(world, netns_factory) as made:
        yield made


def _rule(dice: random.Random) -> Tree:
    family = dice.choice((["10.1.0.0/30", "10.1.0.1/32"], ["fd00:1::/64", "fd00:1::2/128"], []))
    made: Tree = {"action": dice.choice(("allow", "allow", "deny", "reject")), "protocol": dice.choice(("any", "udp"))}
    made["toward"] = dice.choice(("any", "north", "south"))
    if family:
        made[dice.choice(("source", "destination"))] = [dice.choice(family)]
    if made["protocol"] == "udp":
        made["ports"] = dice.sample(["53", "80", "400-500", "8080"], dice.randint(0, 3))
    return made


def _counters(edge: Rows) -> dict[str, int]:
    counted = edge.kernel.ports["nft"].counters(DMZ)  # type: ignore[attr-defined]
    return {name: counted[name][0] for name in REFUSALS}


@pytest.mark.parametrize("seed", range(1, 4))
def test_the_kernel_does_what_was_said(edge: Rows, seed: int) -> None:
    """Datagrams from either side, in both families."""
    dice = random.Random(seed)
    rules = [_rule(dice) for _ in range(dice.randint(1, 8))]
    made = tree("inside", {"a": "web"}, web={"id": 1, "rules": rules, "southward": dice.choice(("allow", "deny"))})
    edge.wire("a")
    edge.start(made)
    ends = {4: edge.pair("a"), 6: edge.pair("a", v6=True)}
    desk = FlowDesk(
        "h1", intent(made), Runtime(), edge.kernel, Instructions(edge.kernel.ports["nft"], edge.kernel.conntrack)
    )
    results = set()
    for number in range(24):
        version, side = dice.choice((4, 6)), dice.choice(("north", "south"))
        source, target = ends[version] if side == "north" else ends[version][::-1]
        brackets = "{}" if version == 4 else "[{}]"
        port = dice.choice(PORTS)
        text = f"udp {brackets.format(source)}:{20_000 + number} > {brackets.format(target)}:{port}"
        row = trace(desk, "inline/dmz", text, "na" if side == "north" else "sa")
        before = _counters(edge)
        sender = edge.opened(side, socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        sender.bind((source, 20_000 + number))
        sender.sendto(b"x", (target, port))

        def happened(text: str = text, before: dict[str, int] = before) -> str:
            entry = desk.find("inline/dmz", text).entry
            if entry is not None:
                return Action(Mark.of(entry.mark).action).name.lower()
            now = _counters(edge)
            return next((name for name in REFUSALS if now[name] > before[name]), "")

        said = eventually(happened, what=f"{text} is judged")
        results.add(said)
        assert said == {"deny": "denied", "reject": "rejected"}.get(row["ways"][0]["action"], "allow"), (row, rules)
        assert row["result"].startswith("passes") == (said == "allow")
    assert len(results) > 1
