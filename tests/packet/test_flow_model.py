"""Random walks through policies, instructions and packets: an edge never does what was so before.

EDGEWAY_STEPS makes walks longer, EDGEWAY_SEED repeats one: the message of a failure names both.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from appliance.kernel import nft_engines
from appliance.kernel.nft_records import Draft
from services import firewall, policy
from tests.packet.flow_model import Walk
from tests.packet.vpcs import Box, box

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.contract.worlds import World
    from tests.support.namespaces import Namespaces as Factory

pytestmark = pytest.mark.kernel

STEPS = int(os.environ.get("EDGEWAY_STEPS", "200"))
SEEDS = [int(os.environ["EDGEWAY_SEED"])] if "EDGEWAY_SEED" in os.environ else [1, 2, 3]


@pytest.fixture
def edge(world: World, netns_factory: Factory) -> Iterator[Box]:
    """Give a host without an edge."""
    with box(world, netns_factory) as made:
        yield made


@pytest.mark.timeout(max(300, STEPS))
@pytest.mark.parametrize("seed", SEEDS)
def test_no_packet_is_handled_by_an_action_older_than_the_last_acknowledged_change(
    edge: Box, seed: int, record_property: Callable[[str, object], None]
) -> None:
    """Each packet's fate and each record's mark are what the intent says, read naively, at every step."""
    walk = Walk(edge, seed)
    try:
        walk.run(STEPS)
    except AssertionError as error:
        steps = "\n  ".join(walk.told)
        message = f"EDGEWAY_SEED={seed} EDGEWAY_STEPS={STEPS}: {error}\nthe last steps:\n  {steps}"
        raise AssertionError(message) from error
    done = ", ".join(f"{count} {what}" for what, count in walk.done.items())
    record_property("measured", f"walk {seed}: {done}; {walk.crowd.sent} packets in the crowd")
    assert min(walk.done.values()) > 0


def _judge_by_what_was_so(patch: pytest.MonkeyPatch) -> None:
    """A commit changes the rules and bumps nothing."""
    patch.setattr(firewall, "_digest", lambda parts: "same")


def _keep_old_words(patch: pytest.MonkeyPatch) -> None:
    """A bump leaves the words of the generation before in the dispatch map."""
    messages = nft_engines.messages
    patch.setattr(nft_engines, "messages", lambda flows, change: messages(nft_engines.Flows(), change))


def _write_no_instruction(patch: pytest.MonkeyPatch) -> None:
    """An instruction is acknowledged and written nowhere."""
    patch.setattr(Draft, "row", lambda *_, **__: False)


def _instruct_new_flows_only(patch: pytest.MonkeyPatch) -> None:
    """An instruction is written, and the record of its flow stays as it was."""
    patch.setattr(Draft, "bump", lambda *_: None)


def _forget_groups(patch: pytest.MonkeyPatch) -> None:
    """A group of one is everybody."""
    patch.setattr(policy, "_ports_of", lambda vpc, rule: iter(vpc.guests))


MUTATIONS = (_judge_by_what_was_so, _keep_old_words, _write_no_instruction, _instruct_new_flows_only, _forget_groups)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.__name__.strip("_"))
def test_the_model_notices_an_edge_that_is_broken(
    edge: Box, monkeypatch: pytest.MonkeyPatch, mutation: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """What would be the worst bugs of the product makes a walk fail, and soon."""
    walk = Walk(edge, 1)
    mutation(monkeypatch)
    with pytest.raises(AssertionError):
        walk.run(200)
