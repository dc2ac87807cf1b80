"""Generations in sequence: no record carries the one that is given out next."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from appliance.kernel import generations
from appliance.kernel.conntrack import KernelConntrack
from appliance.kernel.conntrack_codec import CtEntry, CtTuple
from appliance.kernel.generations import HALF, SWEEP_AT, Generations, Sweep
from appliance.model.errors import KernelError
from appliance.model.facts import Namespace
from appliance.model.marks import Mark

if TYPE_CHECKING:
    from tests.contract.worlds import World

RED = Namespace("red")


@pytest.fixture
def sequence(world: World) -> Iterator[Generations]:
    """Begin where a test says."""
    world.make(RED)
    made = Generations(world.namespaces, start=lambda: 77)
    yield made
    made.close()


def play(world: World, port: int, mark: Mark, zone: int = 7) -> CtEntry:
    """Have a record with a mark."""
    tuple_ = CtTuple(ip_address("192.0.2.1"), ip_address("192.0.2.2"), port, 80)
    command = ["conntrack", "-I", "-p", "udp", "-s", "192.0.2.1", "-d", "192.0.2.2", "--sport", str(port), "--dport"]
    world.run(RED, *command, "80", "-t", "300", "-w", str(zone), "-m", str(mark.word))
    return CtEntry(17, tuple_, tuple_, zone)


def marks(world: World) -> dict[int, Mark]:
    """Return the marks of all records by their source ports."""
    return {entry.orig.sport: Mark.of(entry.mark) for entry in KernelConntrack(world.namespaces).dump(RED)}


def test_generations_follow_each_other_and_zero_is_left_out(sequence: Generations) -> None:
    """It means that a flow was never judged."""
    assert sequence.after(RED, 1, 1) == 2
    assert sequence.after(RED, 1, 4095) == 1
    assert sequence.after(RED, 1, None) == 77


def test_the_first_generation_is_any(world: World) -> None:
    """Of all there are."""
    sequence = Generations(world.namespaces)
    found = {sequence.after(RED, 1, None) for _ in range(200)}
    assert len(found) > 100
    assert min(found) >= 1
    assert max(found) <= 4095


@pytest.mark.parametrize("high", [False, True])
def test_a_half_is_entered_when_its_values_are_forgotten(world: World, sequence: Generations, high: bool) -> None:
    """Records of this engine that carry them, in any zone; others keep theirs, and all keep what else they say."""
    last, others = (HALF - 1, 3000) if high else (4095, 5)
    play(world, 1, Mark(others, 9, 2, 33))
    play(world, 2, Mark(others, 9, 1), zone=8)
    play(world, 3, Mark(others, 8, 1))
    play(world, 4, Mark(last - 3, 9, 1))
    play(world, 5, Mark(0, 9, 4, 1))
    assert sequence.after(RED, 9, last) == (HALF if high else 1)
    assert marks(world) == {
        1: Mark(0, 9, 2, 33),
        2: Mark(0, 9, 1),
        3: Mark(others, 8, 1),
        4: Mark(last - 3, 9, 1),
        5: Mark(0, 9, 4, 1),
    }


def test_a_half_is_swept_for_while_there_is_time(world: World, sequence: Generations) -> None:
    """Once, in a thread, in the second part of the other half."""
    play(world, 1, Mark(3000, 9, 2))
    assert sequence.after(RED, 9, SWEEP_AT - 2) == SWEEP_AT - 1
    assert sequence._sweeps == {}
    sequence.after(RED, 9, SWEEP_AT - 1)
    sweep = sequence._sweeps[RED, 9]
    sequence.after(RED, 9, SWEEP_AT)
    assert sequence._sweeps == {(RED, 9): sweep}
    sweep.join(10)
    assert marks(world) == {1: Mark(0, 9, 2)}
    sequence.after(RED, 9, HALF - 1)
    assert sequence._sweeps == {}


def test_a_sweep_that_failed_is_made_again_before_the_half_is_entered(
    world: World, sequence: Generations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And if it fails again the half is not entered."""
    forget = generations.forget

    def broken(*_: object) -> int:
        raise OSError(12, "no memory")

    play(world, 1, Mark(3000, 9, 2))
    monkeypatch.setattr(generations, "forget", broken)
    sequence.after(RED, 9, SWEEP_AT)
    with pytest.raises(KernelError, match="sweep for engine 9") as caught:
        sequence.after(RED, 9, HALF - 1)
    assert caught.value.retry
    monkeypatch.setattr(generations, "forget", forget)
    assert sequence.after(RED, 9, HALF - 1) == HALF
    assert marks(world) == {1: Mark(0, 9, 2)}


def test_records_of_an_earlier_life_are_forgotten(world: World, sequence: Generations) -> None:
    """But those of engines that are known; a namespace without records is not asked for them."""
    sequence.clear(RED, ())
    play(world, 1, Mark(3000, 9, 2, 4))
    play(world, 2, Mark(3000, 8, 2, 4))
    sequence.clear(RED, {8})
    assert marks(world) == {1: Mark(0, 9, 2, 4), 2: Mark(3000, 8, 2, 4)}


def test_a_namespace_that_goes_takes_its_sweeps(sequence: Generations, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their sockets would keep it alive."""
    made: list[Sweep] = []
    begin = Generations._begin

    def spy(self: Generations, ns: Namespace, engine: int, half: int) -> Sweep:
        made.append(begin(self, ns, engine, half))
        return made[-1]

    monkeypatch.setattr(Generations, "_begin", spy)
    sequence.after(RED, 9, SWEEP_AT)
    sequence.forget(RED)
    assert [one.link.fileno() for one in made] == [-1]
