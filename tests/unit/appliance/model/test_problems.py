"""Two of one thing are a problem at the second place, which names the first."""

from __future__ import annotations

from appliance.model.problems import Problem, unique


def test_each_later_use_of_a_value_is_a_problem_that_names_the_first() -> None:
    """The operator sees both places."""
    items = [(("nodes", "a", "id"), 1), (("nodes", "b", "id"), 2), (("nodes", "c", "id"), 1), (("nodes", "d", "id"), 1)]
    assert list(unique(items, "node id")) == [
        Problem(("nodes", name, "id"), "node id 1 is taken by nodes.a.id", "give each its own") for name in ("c", "d")
    ]


def test_different_values_are_no_problem() -> None:
    """Nor is nothing."""
    assert list(unique([((), 1), ((), 2)], "x")) == []
    assert list(unique([], "x")) == []
