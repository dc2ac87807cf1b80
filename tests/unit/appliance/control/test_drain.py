"""The order to drain: as long as it stands and no longer."""

from __future__ import annotations

from appliance.control.drain import Drain
from appliance.state.store import MemoryStore


def test_an_order_stands_until_it_is_taken_back() -> None:
    """A daemon that starts again in between finds it."""
    store = MemoryStore()
    assert not Drain(store, "a").ordered
    Drain(store, "a").order(ordered=True)
    assert Drain(store, "a").ordered
    Drain(store, "a").order(ordered=False)
    assert not Drain(store, "a").ordered


def test_an_order_ends_with_the_boot() -> None:
    """What is drained before an update serves after it."""
    store = MemoryStore()
    Drain(store, "a").order(ordered=True)
    assert not Drain(store, "b").ordered


def test_the_same_order_again_writes_nothing() -> None:
    """It is asked for again by whoever is not sure."""
    store = MemoryStore()
    for _ in range(3):
        Drain(store).order(ordered=True)
    assert store.get("drain") is not None
    assert (store.get("drain") or ("", 0))[1] == 1
