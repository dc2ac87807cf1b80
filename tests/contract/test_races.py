"""Packets that are on their way while decisions change: none may call an old decision current (design 0004, "The race").

The slow path is made long on purpose, so that transactions come between the look-up of an instruction and the stamp.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Final

import pytest

from appliance.kernel.grace import Grace
from appliance.kernel.nft import NftPort
from appliance.model.facts import Engine, Instruction, NftSet, NftTable
from appliance.model.marks import Action, Mark
from appliance.state.diff import Change, Plan, diff
from tests.contract.boxes import reach
from tests.contract.packets import FENCE, RED, ZONE, Road, Talk
from tests.support.flow_body import flow_body
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.contract.worlds import World

pytestmark = pytest.mark.kernel
two_cpus = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="nothing is on its way while the only CPU is ours"
)

Fact = NftTable | NftSet | Engine | Instruction
#: Look-ups on the slow path of a packet that is to be overtaken: a tenth of a second.
SLOW: Final = 250
TRIES: Final = 20
OTHER = {Action.ALLOW: Action.DENY, Action.DENY: Action.ALLOW}


@pytest.fixture
def road(world: World) -> Iterator[Road]:
    """Build the road."""
    made = Road(world)
    yield made
    made.close()


def table(padding: int = 0, slow: int = 0) -> list[Fact]:
    """Return a table with two engines: that of the flows, and that of the fence."""
    body = flow_body({1: "5000-5999", 2: str(FENCE)}, padding, slow, ZONE)
    elements = frozenset(f"10.0.0.0/8 . {port}" for port in range(20_000, 24_000)) if slow else frozenset()
    sets = [NftSet(RED, "slow", elements)] if slow else []
    return [NftTable(RED, body), *sets, Engine(RED, 1, "policy0"), Engine(RED, 2, "policy0")]


def current(road: Road, port: NftPort, talk: Talk) -> Mark:
    """Return the mark of a flow as soon as it is of the current generation."""

    def judged() -> Mark | bool:
        mark = road.mark(talk)
        return mark is not None and mark.generation == port.generations(RED)[1] and mark

    mark = eventually(judged, what="the flow is judged by what is so now")
    assert isinstance(mark, Mark)
    return mark


def test_no_flow_keeps_an_old_decision_under_instructions_without_pause(road: Road) -> None:
    """Flows at full speed, decisions turned round one after the other, two thousand rules on the slow path."""
    port = NftPort(road.world.namespaces)
    reach(port, table(padding=2000))
    talks = [road.talk(4000 + number, 5000 + number) for number in range(3)]
    said = {talk.key: talk.says(Action.ALLOW) for talk in talks}
    assert port.apply(diff(set[Instruction](), said.values())) == ()
    for talk in talks:
        assert road.ask(talk)
    wrong = 0
    with road.flood(*talks):
        for _ in range(15):
            for talk in talks:
                old = said[talk.key]
                new = said[talk.key] = talk.says(OTHER[old.action])
                assert port.apply(Plan((Change("update", old, new),))) == ()
            wrong += sum(current(road, port, talk).action != said[talk.key].action for talk in talks)
    assert wrong == 0
    assert port.counters(RED)["rechecked"][0] >= 15
    port.close()


def test_no_generation_comes_back_to_a_flow_that_was_silent(road: Road) -> None:
    """Flows that were denied in the lap before, and the engine bumped over the wrap: each is judged by what is so now."""
    port = NftPort(road.world.namespaces, start=lambda: 4000)
    assert reach(port, table()) == ()
    assert set(port.generations(RED).values()) == {4000}
    silent = {generation: road.talk(10_000 + generation, 5000 + generation) for generation in range(1, 200, 10)}
    for generation, talk in silent.items():
        assert road.ask(talk)
        entry = road.tracker.get(RED, talk.key)
        assert entry is not None
        assert road.tracker.set_mark(RED, [entry], Mark(generation, 1, Action.DENY).word) == 1
    for number in range(300):
        bump(port, f"policy{number}")
        talk_now = silent.pop(port.generations(RED)[1], None)
        assert talk_now is None or road.ask(talk_now)
    assert port.generations(RED) == {1: 205, 2: 4000}
    assert silent == {}
    port.close()


class NoGrace(Grace):
    """Periods that nobody waits for."""

    def begin(self, who: object) -> None:
        """Begin nothing."""

    def end(self, who: object) -> None:
        """Wait for nothing."""


def overtaken(road: Road, port: NftPort, talk: Talk) -> Iterator[bool]:
    """Change an instruction and bump while a packet is between look-up and stamp, again and again.

    Yield whether the packet called the old decision current.
    """
    said = talk.says(Action.ALLOW)
    assert port.apply(Plan((Change("create", None, said),))) == ()
    assert road.ask(talk)
    for number in range(TRIES):
        bump(port, f"before{number}")
        with on_its_way(port, talk):
            said = talk.says(OTHER[said.action])
            assert port.apply(Plan((Change("update", said, said),))) == ()
            bump(port, f"after{number}")
        mark = road.mark(talk)
        assert mark is not None
        yield mark.generation == port.generations(RED)[1] and mark.action != said.action


@two_cpus
def test_it_is_the_grace_period_that_keeps_an_old_decision_from_being_stamped(road: Road) -> None:
    """With it the second transaction comes when the packet has left."""
    port = NftPort(road.world.namespaces)
    reach(port, table(slow=SLOW))
    assert list(islice(overtaken(road, port, road.talk(4000, 5000)), 4)) == [False] * 4
    port.close()


@two_cpus
def test_without_the_grace_period_an_old_decision_is_stamped(road: Road) -> None:
    """The control: the test above can fail."""
    port = NftPort(road.world.namespaces)
    port._grace = port._records.grace = NoGrace()
    reach(port, table(slow=SLOW))
    assert any(overtaken(road, port, road.talk(4000, 5000)))
    port.close()


def bump(port: NftPort, policy: str) -> None:
    """Have all flows of the engine judged again."""
    engine = Engine(RED, 1, policy)
    assert port.apply(Plan((Change("update", engine, engine),))) == ()


@contextmanager
def on_its_way(port: NftPort, talk: Talk) -> Iterator[None]:
    """Have a packet of the flow on the slow path, beyond its look-up of instructions; on a CPU where we are not."""
    here, there, *_ = sorted(os.sched_getaffinity(0))
    before, both = port.counters(RED)["judged"], os.sched_getaffinity(0)

    def send() -> None:
        os.sched_setaffinity(0, {there})
        talk.client.send(b"slow")

    sender = threading.Thread(target=send)
    os.sched_setaffinity(0, {here})
    try:
        sender.start()
        while port.counters(RED)["judged"] == before:
            assert sender.ident
        yield
    finally:
        sender.join()
        os.sched_setaffinity(0, both)
