"""Flow records under real packets: who is judged again, when, and by what (design 0004)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from appliance.kernel.nft import NftPort
from appliance.model.facts import Engine, Instruction, NftSet, NftTable
from appliance.model.marks import Action
from tests.contract.boxes import reach
from tests.contract.packets import FENCE, RED, ZONE, Road
from tests.support.flow_body import flow_body

if TYPE_CHECKING:
    from tests.contract.worlds import World

pytestmark = pytest.mark.kernel

TABLE = NftTable(RED, flow_body({1: "5000-5999", 2: "6000-6999", 3: str(FENCE), 4: "2048"}, zone=ZONE))
Facts = frozenset[NftTable | NftSet | Engine | Instruction]
ENGINES: Facts = frozenset(Engine(RED, number, "first") for number in (1, 2, 3, 4))
BASE: Facts = ENGINES | {TABLE}


@pytest.fixture
def road(world: World) -> Iterator[Road]:
    """Build the road."""
    made = Road(world)
    yield made
    made.close()


@pytest.fixture
def port(road: Road) -> Iterator[NftPort]:
    """Make the table, with four engines."""
    made = NftPort(road.world.namespaces)
    assert reach(made, BASE) == ()
    assert made.read() == BASE
    yield made
    made.close()


def rechecked(port: NftPort) -> int:
    """Return how many trips of the slow path were made by flows that had been judged before."""
    return port.counters(RED)["rechecked"][0]


def test_an_instruction_stops_a_live_flow_and_lets_it_go_again(road: Road, port: NftPort) -> None:
    """Drop, allow, drop; then the policy again."""
    talk = road.talk(4000, 5000)
    assert road.ask(talk)
    assert road.answer(talk)
    for action in (Action.DENY, Action.ALLOW, Action.DENY):
        assert reach(port, BASE | {talk.says(action)}) == ()
        assert port.read() == BASE | {talk.says(action)}
        assert road.ask(talk) == road.answer(talk) == (action == Action.ALLOW)
    assert reach(port, BASE) == ()
    assert road.ask(talk)
