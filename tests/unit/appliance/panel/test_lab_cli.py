"""The lab commands: what they print and their exit codes; the runner itself is tested elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from appliance.model.errors import OperatorError
from appliance.panel import cli, lab_cli
from appliance.panel.lab import runner
from appliance.panel.lab.observe import CheckRow, NodeRow, Report

TOPOLOGY = "labs/az/az.clab.yml"
GOOD, BAD = (
    CheckRow("guests of red", "r1: ping 172.16.1.12", good=True),
    CheckRow("the VIP", "gw1: connect", good=False),
)
UP, SLOW = NodeRow("h1", "host", "converged", "4/4", 7), NodeRow("rs1", "route-server", "converging", "1/8")
GREEN, RED = Report((UP,), (GOOD,)), Report((UP, SLOW), (GOOD, BAD))


def edgeway(*words: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(cli.app, ["lab", *words])


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Report]:
    """Give the reports that looks at the lab return, in turn; the last one again and again."""
    reports: list[Report] = []

    def look(path: Path) -> Report:
        assert path == Path(TOPOLOGY)
        return reports.pop(0) if len(reports) > 1 else reports[0]

    monkeypatch.setattr(lab_cli, "look", look)
    monkeypatch.setattr(lab_cli, "PAUSE", 0)
    return reports


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give what the runner was asked to do."""
    asked: list[str] = []

    def step(name: str) -> Callable[..., None]:
        def call(
            path: Path,
            progress: Callable[[str], None],
            containers: Path | None = None,
            machines: Path = lab_cli.MACHINES,
        ) -> None:
            assert machines == lab_cli.MACHINES
            asked.append(f"{name} {path}" + (f" of {containers}" if containers else ""))
            progress(f"{name} did 2001:db8:a:100::1 [x]")

        return call

    monkeypatch.setattr(runner, "up", step("up"))
    monkeypatch.setattr(runner, "down", step("down"))
    return asked


def test_status_shows_nodes_and_checks(seen: list[Report]) -> None:
    """Green is 0; a script can wait for it."""
    seen.append(GREEN)
    done = edgeway("status", TOPOLOGY)
    assert done.exit_code == 0
    assert "az.clab.yml" in done.stdout
    assert "converged" in done.stdout
    assert "r1: ping 172.16.1.12" in done.stdout


def test_status_of_a_lab_that_is_not_green_fails(seen: list[Report]) -> None:
    """And says what is not."""
    seen.append(RED)
    done = edgeway("status", TOPOLOGY)
    assert done.exit_code == 1
    assert "no answer" in done.stdout


def test_status_for_programs_is_json(seen: list[Report]) -> None:
    """With the same exit code."""
    seen.append(RED)
    done = edgeway("status", TOPOLOGY, "--json")
    assert done.exit_code == 1
    value = json.loads(done.stdout)
    assert value["green"] is False
    assert [row["node"] for row in value["nodes"]] == ["h1", "rs1"]
    assert [row["good"] for row in value["checks"]] == [True, False]


def test_up_waits_until_every_check_is_green(seen: list[Report], ran: list[str]) -> None:
    """It says what comes next."""
    seen.extend([RED, RED, GREEN])
    done = edgeway("up", TOPOLOGY)
    assert done.exit_code == 0
    assert ran == [f"up {TOPOLOGY}"]
    assert "up did 2001:db8:a:100::1 [x]\n" in done.stdout
    assert "1 of 1 nodes converged, 1 of 1 checks good" in done.stdout
    assert "every check is green" in done.stdout
    assert f"edgeway lab down {TOPOLOGY}" in done.stdout


def test_nodes_of_our_image_may_be_containers(seen: list[Report], ran: list[str]) -> None:
    """Of the archive that `make image` makes, or of another one; what is no runtime is wrong usage."""
    seen.append(GREEN)
    assert edgeway("up", TOPOLOGY, "--runtime", "podman").exit_code == 0
    assert edgeway("up", TOPOLOGY, "--runtime", "podman", "--oci", "/x.tar").exit_code == 0
    assert ran == [f"up {TOPOLOGY} of build/image/edgeway-oci.tar", f"up {TOPOLOGY} of /x.tar"]
    assert edgeway("up", TOPOLOGY, "--runtime", "docker").exit_code == 2


def test_up_of_a_lab_that_does_not_converge_fails_in_the_end(
    seen: list[Report], ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And shows where it stands; the lab is left up to look at."""
    monkeypatch.setattr(lab_cli.converge, "__defaults__", (0.0, 0.0))
    seen.append(RED)
    done = edgeway("up", TOPOLOGY)
    assert done.exit_code == 1
    assert "NOT converged" in done.stdout
    assert "1 of 2 nodes converged, 1 of 2 checks good" in done.stdout
    assert ran == [f"up {TOPOLOGY}"]


def test_down_takes_the_lab_down(ran: list[str]) -> None:
    """With the runner's own words."""
    done = edgeway("down", TOPOLOGY)
    assert done.exit_code == 0
    assert ran == [f"down {TOPOLOGY}"]
    assert "down did" in done.stdout


def test_exec_passes_words_and_exit_status_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Options after the node's name belong to the command."""
    asked: list[tuple[Path, str, list[str]]] = []

    def exec_in(path: Path, node: str, command: list[str]) -> int:
        asked.append((path, node, command))
        return 7

    monkeypatch.setattr(runner, "exec_in", exec_in)
    done = edgeway("exec", TOPOLOGY, "h1", "ip", "-6", "route", "--help")
    assert done.exit_code == 7
    assert asked == [(Path(TOPOLOGY), "h1", ["ip", "-6", "route", "--help"])]


def test_an_error_of_the_runner_is_told_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback."""

    def up(path: Path, **_: object) -> None:
        raise OperatorError.of("only root can make namespaces", "run it with sudo")

    monkeypatch.setattr(runner, "up", up)
    done = edgeway("up", TOPOLOGY)
    assert done.exit_code == 1
    assert done.stderr == "error: only root can make namespaces (run it with sudo)\n"


def test_watch_goes_on_until_it_is_interrupted(seen: list[Report], monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it ends as it should."""
    looks = 0

    def sleep(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    seen.append(GREEN)
    done = edgeway("watch", TOPOLOGY)
    assert looks == 3
    assert done.exit_code == 0
    assert "converged" in done.stdout
