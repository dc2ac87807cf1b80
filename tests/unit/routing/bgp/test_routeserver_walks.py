"""Random walks of the route server: `EDGEWAY_STEPS` makes them longer, `EDGEWAY_SEED` repeats one."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from routing.bgp import audiences, tables
from routing.bgp.audience import Audience
from routing.bgp.tables import Tables
from routing.bgp.values import Mode
from tests.support.walking import Walk

STEPS = int(os.environ.get("EDGEWAY_STEPS", "200"))
SEEDS = [int(os.environ["EDGEWAY_SEED"])] if "EDGEWAY_SEED" in os.environ else [1, 2, 3]


def walk(seed: int, mode: Mode, steps: int) -> Walk:
    """Walk; what fails says how to do it again."""
    found = Walk(seed, mode)
    try:
        found.run(steps)
    except AssertionError as error:
        last = "\n  ".join(found.told)
        message = f"EDGEWAY_SEED={seed} EDGEWAY_STEPS={steps}: {error}\nthe last steps:\n  {last}"
        raise AssertionError(message) from error
    return found


@pytest.mark.timeout(max(300, STEPS))
@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_walk_ends_where_a_fresh_computation_ends(
    seed: int, mode: Mode, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    """Tables, verdicts, counts, best paths and what each neighbour knows, at every step."""
    if seed % 2:
        monkeypatch.setattr(tables, "_SWEEP", 5)
    found = walk(seed, mode, STEPS)
    done = ", ".join(f"{count} {what}" for what, count in found.done.items())
    record_property("measured", f"walk {seed} of a {mode.value}: {done}")
    assert {"announce", "withdraw", "configure", "fall_behind", "look"} <= found.done.keys()


def _walks(steps: int) -> None:
    for seed in range(1, 6):
        for mode in Mode:
            walk(seed, mode, steps)


def _hide_nothing(patch: pytest.MonkeyPatch) -> None:
    """A path goes back to where it came from."""
    patch.setattr(Audience, "concerned", lambda *_: ())


def _end_nothing(patch: pytest.MonkeyPatch) -> None:
    """End-of-RIB changes nothing."""
    patch.setattr(Tables, "end_of_rib", lambda *_: None)


def _forget_what_is_missed(patch: pytest.MonkeyPatch) -> None:
    """Who is behind stays behind."""
    patch.setattr(audiences, "_note", lambda *_: None)


def _name_nobody(patch: pytest.MonkeyPatch) -> None:
    """A path goes to those who are in it."""
    patch.setattr(Tables, "name", lambda *_: None)


def _weigh_once(patch: pytest.MonkeyPatch) -> None:
    """A neighbour's router id is the one that it had first."""
    patch.setattr(Tables, "reweigh", lambda *_: None)


def _admit_nobody(patch: pytest.MonkeyPatch) -> None:
    """Who waits for room waits for ever."""
    patch.setattr(Tables, "_admit_waiting", lambda *_: None)


MUTATIONS = (_hide_nothing, _end_nothing, _forget_what_is_missed, _name_nobody, _weigh_once, _admit_nobody)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.__name__.strip("_"))
def test_the_walks_notice_a_route_server_that_is_broken(
    mutation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would be the worst bugs makes one of a few walks fail."""
    mutation(monkeypatch)
    with pytest.raises(AssertionError):
        _walks(200)
