"""Health checks and stages: which commands are run, and what makes no difference."""

from __future__ import annotations

import pytest

from appliance.model.errors import OperatorError
from appliance.panel.lab.topology import parse
from appliance.panel.lab.values import Topology


def lab(keys: str) -> Topology:
    """Parse a lab of one node with these keys."""
    return parse(f"name: x\ntopology: {{nodes: {{a: {{kind: linux, {keys}}}}}}}\n", "x.clab.yml")


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ("[CMD, ping, -c1, b]", ("ping", "-c1", "b")),
        ("[CMD-SHELL, ping b || exit 1]", ("sh", "-c", "ping b || exit 1")),
        ("[CMD-SHELL]", ()),
        ("[NONE]", ()),
        ("[cat, /health]", ("cat", "/health")),
        ("[]", ()),
    ],
)
def test_a_health_check_is_a_command(test: str, words: tuple[str, ...]) -> None:
    """In the forms that containers have."""
    assert lab(f"healthcheck: {{test: {test}}}").nodes[0].health == words


def test_the_rhythm_of_a_health_check_makes_no_difference() -> None:
    """It is asked when somebody looks; a key that nobody knows is refused."""
    said = [warning.message for warning in lab("healthcheck: {test: [CMD, 'true'], interval: 5, retries: 2}").warnings]
    assert said == ["`interval` makes no difference", "`retries` makes no difference"]
    with pytest.raises(OperatorError, match="`often` is not supported"):
        lab("healthcheck: {test: [CMD, 'true'], often: 5}")


def test_the_commands_of_stages_run_in_the_order_of_the_stages() -> None:
    """Both forms; they run before `exec`, when the links are there."""
    brief = "configure: {exec: {on-exit: [c], on-enter: [b]}}, create-links: {exec: {on-exit: [a]}}"
    long = "healthy: {exec: [{command: e, phase: on-exit}, {command: d, phase: on-enter, target: container}]}"
    assert lab(f"stages: {{{long}, {brief}}}").nodes[0].stages == ("a", "b", "c", "d", "e")


def test_there_is_nothing_to_wait_for() -> None:
    """All nodes start at once, and nobody is told that he will end."""
    topology = lab("stages: {create: {wait-for: [{node: b, stage: healthy}]}, exit: {exec: {on-enter: [a]}}}")
    assert [warning.message for warning in topology.warnings] == [
        "`wait-for` makes no difference",
        "`exec` makes no difference",
    ]
    assert topology.nodes[0].stages == ()


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        ("{boot: {}}", "no stage 'boot'"),
        ("{create: {exec: [{command: a, phase: on-exit, target: host}]}}", "target 'host' is not supported"),
        ('{create: {exec: {on-exit: ["a \'b"]}}}', "No closing quotation"),
    ],
)
def test_what_cannot_be_done_is_refused(stages: str, says: str) -> None:
    """Commands on the machine belong to whoever has the machine."""
    with pytest.raises(OperatorError, match=says):
        lab(f"stages: {stages}")
