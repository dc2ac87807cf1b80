"""Parts of services are joined in the order of the services."""

from __future__ import annotations

from appliance.model.facts import Namespace, NftSet
from services.feature import Chain, EdgeParts, Runtime


def test_parts_are_joined_field_by_field_in_order() -> None:
    """The order of statements is the order of the services."""
    one = EdgeParts(declarations=("set a",), prerouting=("x", "y"))
    other = EdgeParts(prerouting=("z",), postrouting=("p",), sets=(NftSet(Namespace("n"), "a", frozenset()),))
    assert EdgeParts.merge((one, other)) == EdgeParts(
        declarations=("set a",), prerouting=("x", "y", "z"), postrouting=("p",), sets=other.sets
    )
    assert EdgeParts.merge(iter((other, one))).prerouting == ("z", "x", "y")


def test_nothing_joined_is_nothing() -> None:
    """A VPC without services has an edge too."""
    assert EdgeParts.merge(()) == EdgeParts()


def test_at_the_start_nothing_is_known_to_be_wrong() -> None:
    """A restarted daemon disturbs nothing."""
    assert (dict(Runtime().blocks), Runtime().down) == ({}, frozenset())


def test_a_chain_is_written_with_its_header_first() -> None:
    """A chain without one is reached by jump or goto."""
    assert Chain("a", ("accept",), "type filter hook input priority 0").text == (
        "chain a {\n  type filter hook input priority 0;\n  accept\n}"
    )
    assert Chain("b").text == "chain b {\n}"
