from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from appliance.model.errors import KernelError
from appliance.panel.lab import build
from appliance.panel.lab.build import Failure, connect, run_commands
from appliance.panel.lab.topology import parse

pytestmark = pytest.mark.kernel


def test_a_failure_is_one_line() -> None:
    """With the last thing the command said."""
    failure = Failure("a", "ip link", 1, "first\nlast\n")
    assert str(failure) == "a: `ip link` ended with 1: last"
    assert str(Failure("a", "false", 1, "")).endswith("ended with 1: ")


def test_commands_of_a_node_run_in_their_order_whatever_fails(tmp_path: Path) -> None:
    """A failure is noted, and the next command runs; magic variables are replaced."""
    commands = f"[\"sh -c 'echo one >> {tmp_path}/log'\", 'false', \"sh -c 'echo __clabNodeName__ >> {tmp_path}/log'\"]"
    topology = parse(f"name: x\ntopology: {{nodes: {{a: {{kind: linux, exec: {commands}}}}}}}\n")
    with ThreadPoolExecutor(2) as pool:
        failures = run_commands(pool, topology, tmp_path, {"a": os.getpid()})
    assert (tmp_path / "log").read_text() == "one\na\n"
    assert [(failure.node, failure.command, failure.status) for failure in failures] == [("a", "false", 1)]


def test_a_program_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    """As a shell would say it."""
    topology = parse("name: x\ntopology: {nodes: {a: {kind: linux, exec: [no-such-program]}}}\n")
    with ThreadPoolExecutor(2) as pool:
        (failure,) = run_commands(pool, topology, tmp_path, {"a": os.getpid()})
    assert failure.status == 127
    assert "no-such-program" in failure.output


def test_a_command_that_does_not_end_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lab comes up without it."""
    monkeypatch.setattr(build, "EXEC_WITHIN", 0.2)
    topology = parse("name: x\ntopology: {nodes: {a: {kind: linux, exec: [sleep 1000]}}}\n")
    with ThreadPoolExecutor(2) as pool:
        (failure,) = run_commands(pool, topology, tmp_path, {"a": os.getpid()})
    assert failure.status == 124


def test_a_link_that_the_kernel_refuses_is_named() -> None:
    """By the very command that failed, with the kernel's number."""
    nodes = "{a: {kind: linux}, b: {kind: linux}}"
    topology = parse(f"name: x\ntopology: {{nodes: {nodes}, links: [{{endpoints: ['a:eth1', 'b:eth1']}}]}}\n")
    gone = 2**22 - 1
    with ThreadPoolExecutor(2) as pool, pytest.raises(KernelError) as caught:
        connect(pool, topology, {"a": gone, "b": gone})
    assert f"link add name eth1 netns {gone}" in str(caught.value)
