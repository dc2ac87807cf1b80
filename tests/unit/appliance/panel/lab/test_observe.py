"""How a lab is: every daemon asked, every check tried; what does not answer is told as that."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from appliance.model.errors import EngineError, OperatorError
from appliance.panel.lab import observe as module
from appliance.panel.lab import runner
from appliance.panel.lab.observe import CheckRow, NodeRow, Report, client, observe
from tests.support.intents import bare, pair, to_yaml

CHECKS = """
checks:
  - {what: the guest answers, from: h1, ping: 172.16.1.11}
  - {what: the VIP answers, from: gw1, tcp: "203.0.113.80:80"}
"""
STATUS: dict[str, Any] = {
    "converged": True,
    "sessions": {"established": 4, "configured": 4},
    "routes": 7,
    "pending": [],
    "engines": {},
}


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Give the topology of a lab with an intent and checks beside it."""
    (tmp_path / "intent.yaml").write_text(to_yaml(pair()))
    (tmp_path / "checks.yaml").write_text(CHECKS)
    return tmp_path / "az.clab.yml"


class World:
    """What the lab's nodes would answer: status by node, exit status by check's node."""

    def __init__(self) -> None:
        self.status: dict[str, dict[str, Any] | Exception] = {}
        self.exits: dict[str, int | Exception] = {}
        self.ran: list[tuple[str, list[str]]] = []

    def client(self, _: Path, node: str) -> Any:
        """Return something that shows a status."""
        world = self

        class Shown:
            def show(self, name: str) -> dict[str, Any]:
                assert name == "status"
                answer = world.status.get(node, STATUS)
                if isinstance(answer, Exception):
                    raise answer
                return answer

        return Shown()

    def run_in(self, _: Path, node: str, argv: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
        """Answer a command."""
        self.ran.append((node, argv))
        answer = self.exits.get(node, 0)
        if isinstance(answer, Exception):
            raise answer
        return subprocess.CompletedProcess(argv, answer, "", "")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Put a world in which everything is well in the place of a lab."""
    world = World()
    monkeypatch.setattr(module, "client", world.client)
    monkeypatch.setattr(runner, "run_in", world.run_in)
    return world


def test_a_lab_where_all_is_well_is_green(lab: Path, world: World) -> None:
    """Every node of the intent, every check of the file."""
    report = observe(lab)
    assert report.green
    assert [row.node for row in report.nodes] == ["rs1", "h1", "h2", "gw1"]
    assert report.nodes[0] == NodeRow("rs1", "route-server", "converged", "4/4", 7)
    assert report.checks == (
        CheckRow("the guest answers", "h1: ping 172.16.1.11", good=True),
        CheckRow("the VIP answers", "gw1: connect to 203.0.113.80:80", good=True),
    )


def test_a_daemon_that_does_not_answer_is_silent_and_says_why(lab: Path, world: World) -> None:
    """In one line; the others are shown all the same."""
    world.status["h1"] = OperatorError.of("no daemon answers\nreally", "start it")
    report = observe(lab)
    assert not report.green
    row = next(row for row in report.nodes if row.node == "h1")
    assert (row.state, row.detail) == ("silent", "error: no daemon answers")
    assert [row.state for row in report.nodes if row.node != "h1"] == ["converged"] * 3


def test_a_node_that_converges_says_what_it_waits_for(lab: Path, world: World) -> None:
    """First what is wrong with an engine, else what the kernel does not have."""
    pending = [{"object": "link tap1", "error": "no such device"}, {"object": "link tap2", "error": "x"}]
    world.status["h1"] = {**STATUS, "converged": False, "pending": pending}
    world.status["h2"] = {**STATUS, "converged": False, "pending": pending, "engines": {"router": "killed"}}
    rows = {row.node: row for row in observe(lab).nodes}
    assert (rows["h1"].state, rows["h1"].pending, rows["h1"].detail) == ("converging", 2, "link tap1: no such device")
    assert rows["h2"].detail == "router: killed"


@pytest.mark.parametrize(
    "answer", [1, EngineError("no such node"), subprocess.TimeoutExpired("ping", 4)], ids=["fails", "no node", "hangs"]
)
def test_a_check_that_is_not_good_makes_the_lab_not_green(lab: Path, world: World, answer: int | Exception) -> None:
    """Whatever kept it from being good."""
    world.exits["gw1"] = answer
    report = observe(lab)
    assert [row.good for row in report.checks] == [True, False]
    assert not report.green


def test_a_lab_without_an_intent_has_no_daemons_to_ask(tmp_path: Path, world: World) -> None:
    """Nor checks, if there is no such file."""
    assert observe(tmp_path / "x.clab.yml") == Report((), ())


@pytest.mark.parametrize(("routes", "good"), [(7, True), (8, False)])
def test_a_check_of_routes_asks_the_daemon_how_many_it_made(lab: Path, world: World, routes: int, good: bool) -> None:
    """At least so many; nothing is run in the node."""
    (lab.parent / "checks.yaml").write_text(f"checks: [{{what: the table, from: h1, routes: {routes}}}]")
    assert observe(lab).checks == (CheckRow("the table", f"h1: at least {routes} routes", good),)
    assert world.ran == []


def test_a_wrong_intent_beside_the_lab_is_told(tmp_path: Path, world: World) -> None:
    """A lab cannot converge to it."""
    (tmp_path / "intent.yaml").write_text(to_yaml(bare()).replace("as:", "sa:"))
    with pytest.raises(OperatorError, match="unknown key"):
        observe(tmp_path / "az.clab.yml")


def test_a_daemon_is_asked_through_its_node_s_own_files(monkeypatch: pytest.MonkeyPatch, lab: Path) -> None:
    """Each node has a /run of its own."""
    monkeypatch.setattr(runner, "node_pid", lambda path, node: {"h1": 1234}[node])
    assert client(lab, "h1")._path == Path("/proc/1234/root/run/edgeway/api.sock")


NEIGHBORS = [
    {"neighbor": "m11/ipv4", "address": "192.0.2.11", "state": "established"},
    {"neighbor": "m11/ipv6", "address": "2001:db8:ff::11", "state": "connect"},
]
ACCEPTED, REFUSED = {"refused": None}, {"refused": {"number": 3, "name": "BOGON"}}


def asked(monkeypatch: pytest.MonkeyPatch, lab: Path, check: str, rows: list[dict[str, Any]]) -> bool:
    """Try one check of a daemon that shows these rows."""

    class Shown:
        def show(self, name: str, **_: str) -> Any:
            return STATUS if name == "status" else rows

    monkeypatch.setattr(module, "client", lambda *_: Shown())
    (lab.parent / "checks.yaml").write_text(f"checks: [{{what: x, from: h1, {check}}}]")
    return observe(lab).checks[0].good


@pytest.mark.parametrize(
    ("neighbor", "good"), [("m11/ipv4", True), ("192.0.2.11", True), ("m11", False), ("m12", False), ("m1", False)]
)
def test_a_session_is_named_by_peer_or_by_itself(
    monkeypatch: pytest.MonkeyPatch, lab: Path, neighbor: str, good: bool
) -> None:
    """All sessions of a peer must be up; one that nobody has is not."""
    assert asked(monkeypatch, lab, f"session: '{neighbor}'", NEIGHBORS) is good


@pytest.mark.parametrize(
    ("check", "rows", "good"),
    [
        ("route: 192.0.2.0/24", [ACCEPTED, REFUSED], True),
        ("route: 192.0.2.0/24", [REFUSED], False),
        ("no-route: 192.0.2.0/24", [REFUSED], True),
        ("no-route: 192.0.2.0/24", [], True),
        ("no-route: 192.0.2.0/24", [ACCEPTED], False),
        ("refused: 192.0.2.0/24", [REFUSED], True),
        ("refused: 192.0.2.0/24", [], False),
        ("refused: 192.0.2.0/24", [REFUSED, ACCEPTED], False),
        ("refused: 192.0.2.0/24, because: BOGON", [REFUSED], True),
        ("refused: 192.0.2.0/24, because: NOT_OWNED", [REFUSED], False),
    ],
)
def test_the_paths_of_a_prefix_are_judged_as_the_check_wants_it(
    monkeypatch: pytest.MonkeyPatch, lab: Path, check: str, rows: list[dict[str, Any]], good: bool
) -> None:
    """Accepted, not there, or there and refused for a reason."""
    assert asked(monkeypatch, lab, check, rows) is good
