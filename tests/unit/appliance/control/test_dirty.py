"""The memories of the daemon's loop."""

from __future__ import annotations

import errno

from appliance.control.dirty import LEAST_PAUSE, SHARE, Dirty, Pace, Patience
from appliance.kernel.port import Failure
from appliance.model.errors import KernelError
from appliance.model.facts import Namespace, Netns


def refused(name: str, code: int = errno.ENODEV) -> Failure:
    """Return a refusal; ENODEV passes, EINVAL does not."""
    return Failure(Netns(Namespace(name)), KernelError("namespaces", name, code))


def test_what_is_marked_is_taken_once() -> None:
    """Marks add up until they are taken together."""
    dirty = Dirty()
    dirty.look(("links",))
    dirty.look(("links", "routes"))
    dirty.compile()
    assert dirty.event.is_set()
    assert dirty.take() == (True, {"links", "routes"})
    assert not dirty.event.is_set()
    assert dirty.take() == (False, set())


def test_looking_at_nothing_marks_no_compile() -> None:
    """An empty list of subsystems is not the compiled state."""
    dirty = Dirty()
    dirty.look(())
    assert dirty.take() == (False, set())


def test_nothing_refused_is_never_tried() -> None:
    """There is nothing to try."""
    patience = Patience()
    assert not any(patience.again((), float(now)) for now in range(100))


def test_what_passes_is_tried_at_once_and_then_ever_more_rarely() -> None:
    """A device may be missing for days."""
    patience = Patience()
    tried = [now for now in range(200) if patience.again((refused("a"),), float(now))]
    assert tried == [0, 1, 3, 7, 15, 31, 61, 91, 121, 151, 181]


def test_another_refusal_starts_over() -> None:
    """Something changed, so something else may have passed."""
    patience = Patience()
    for now in range(50):
        patience.again((refused("a"),), float(now))
    assert patience.again((refused("a"), refused("b")), 50.0)


def test_what_does_not_pass_by_itself_is_tried_rarely() -> None:
    """A foreign route may be in the way, and nobody tells when it goes."""
    patience = Patience()
    tried = [now for now in range(100) if patience.again((refused("a", errno.EINVAL),), float(now))]
    assert tried == [30, 60, 90]


def test_the_first_look_is_at_once() -> None:
    """Nothing is known yet of what it costs."""
    assert Pace().due(100.0, urgent=False) == 100.0


def test_a_look_is_at_once_after_a_quiet_time_and_else_in_pauses_that_grow_with_what_it_costs() -> None:
    """Whoever changes something all the time has a share of ours, and no more."""
    pace = Pace()
    pace.looked(0.001, 100.0)
    assert pace.due(100.0, urgent=False) == 100.0 + LEAST_PAUSE
    pace.looked(2.0, 100.0)
    assert pace.due(101.0, urgent=False) == 100.0 + 2.0 * SHARE
    assert pace.due(200.0, urgent=False) == 200.0


def test_a_carrier_does_not_wait_as_long_and_no_other_reason_delays_it() -> None:
    """Until somebody has looked."""
    pace = Pace()
    pace.looked(2.0, 100.0)
    assert [pace.due(101.0, urgent=urgent) for urgent in (False, True, False)] == [100.0 + 2.0 * SHARE, 102.0, 102.0]
    pace.looked(2.0, 103.0)
    assert pace.due(104.0, urgent=False) == 103.0 + 2.0 * SHARE
