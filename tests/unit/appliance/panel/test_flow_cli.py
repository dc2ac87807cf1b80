"""The commands of single flows, over a daemon's socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from appliance.panel import cli
from appliance.panel.flow_cli import lines
from tests.support.fake_daemon import daemon, ready
from tests.support.fake_node import quiet_vpc
from tests.support.intents import to_yaml

FLOW = "tcp 172.16.1.13:40000 > 198.51.100.1:80"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the socket of a daemon of host h1 that has converged."""
    directory = tmp_path_factory.mktemp("daemon")
    file = directory / "intent.yaml"
    file.write_text(to_yaml(quiet_vpc()))
    with daemon(file, "h1", directory) as (process, client):
        ready(process, client)
        yield directory / "api.sock"


def edgeway(socket: Path, *words: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(cli.app, [*words, "--socket", str(socket)])


def told(socket: Path, *words: str) -> Any:
    """Run a command and return its JSON."""
    done = edgeway(socket, *words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize(("word", "action"), [("deny", "deny"), ("reset", "reject"), ("allow", "allow")])
def test_a_flow_is_instructed_and_cleared(served: Path, word: str, action: str) -> None:
    """What stands in force is shown."""
    answer = told(served, "flow", word, "red", FLOW)
    assert (answer["flow"], answer["live"], answer["in-force"]) == (FLOW, False, True)
    (row,) = told(served, "show", "instructions", "--vpc", "red")
    assert (row["flow"], row["action"]) == (FLOW, action)
    assert FLOW in edgeway(served, "show", "instructions").stdout
    assert told(served, "flow", "clear", "red", FLOW)["cleared"] == 1
    assert told(served, "show", "instructions") == []


def test_all_instructions_of_a_vpc_are_cleared_at_once(served: Path) -> None:
    """Only if that is what is said."""
    for port in (1, 2):
        assert edgeway(served, "flow", "deny", "red", f"tcp 172.16.1.13:{port} > 198.51.100.1:80").exit_code == 0
    for words in (["red"], ["red", FLOW, "--all"]):
        done = edgeway(served, "flow", "clear", *words)
        assert done.exit_code == 1
        assert "give a flow, or --all" in done.stderr
    assert told(served, "flow", "clear", "red", "--all") == {"vpc": "red", "cleared": 2}


def test_a_redirect_names_its_node(served: Path) -> None:
    """There is none here."""
    assert edgeway(served, "flow", "redirect", "red", FLOW).exit_code == 2
    done = edgeway(served, "flow", "redirect", "red", FLOW, "--to", "ids")
    assert done.exit_code == 1
    assert "ids is no service node of red here" in done.stderr


def test_what_is_no_flow_is_answered_with_the_form(served: Path) -> None:
    """As when the shell has taken half of it."""
    for words in (("flow", "deny"), ("trace",)):
        done = edgeway(served, *words, "red", "tcp 172.16.1.13:40000")
        assert done.exit_code == 1
        assert "'tcp 10.0.0.1:40000 > 10.0.0.2:80'" in done.stderr


def test_a_trace_ends_with_what_becomes_of_the_flow(served: Path) -> None:
    """One fact a line; programs get all of it."""
    done = edgeway(served, "trace", "red", FLOW)
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == f"flow         {FLOW}: not live, taken as a first packet"
    assert done.stdout.splitlines()[-1] == "result       passes"
    assert told(served, "trace", "red", FLOW)["result"] == "passes"
    done = edgeway(served, "trace", "red", FLOW, "--in", "ew-up")
    assert "dropped by spoofed source" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("what", ["rules", "engines"])
def test_rules_and_engines_are_tables_for_eyes_and_json_for_programs(served: Path, what: str) -> None:
    """Of all VPCs here, or one."""
    assert "red" in edgeway(served, "show", what).stdout
    assert told(served, "show", what, "--vpc", "red") == told(served, "show", what)
    assert "here: red" in edgeway(served, "show", what, "--vpc", "blue").stderr


def test_flows_may_be_asked_for_by_change_and_the_audit_too(served: Path) -> None:
    """Nothing flows in memory."""
    change = "backend-gone red/web 172.16.1.13:8080"
    assert told(served, "show", "flows", "--affected-by", change) == []
    assert told(served, "show", "audit", "--change", change) == []
    assert "is not the name of a change" in edgeway(served, "show", "flows", "--affected-by", "x").stderr
    assert edgeway(served, "show", "audit").stdout == "nothing to show\n"


@pytest.mark.parametrize(
    "command",
    [
        *(["flow", word] for word in ("deny", "reset", "allow", "redirect", "clear")),
        ["trace"],
        *(["show", what] for what in ("flows", "instructions", "rules", "engines", "audit")),
    ],
)
def test_every_command_has_an_example(command: list[str]) -> None:
    """Of itself."""
    text = " ".join(CliRunner().invoke(cli.app, [*command, "--help"]).stdout.split())
    assert f"Example: edgeway {' '.join(command)} " in text


PORT = {"guest": "r1", "end": "source", "rule": "1a2b3c4d", "position": 2, "tier": "application", "says": "allow tcp",
        "action": "allow", "because": None}  # fmt: skip
WAY = {
    "destination": "172.16.1.13: guest r3 on h1",
    "translation": ["destination becomes 172.16.1.13:8080 (VIP web, backend r3)"],
    "ports": [PORT, PORT | {"guest": None, "end": "neither", "rule": None, "says": "inbound", "because": "so"}],
    "action": "redirect",
    "object": "ids",
    "engine": 2,
    "differs": "the record says deny",
    "next-hop": "dev ew-lan",
}
ROW = {
    "flow": FLOW,
    "live": True,
    "state": "established",
    "arrives": "ew-lan",
    "zone": 1101,
    "source": "172.16.1.11: guest r1 on h1",
    "instruction": "redirect to ids",
    "record": {"engine": 2, "generation": 4, "judged": "stale", "action": "deny"},
    "ways": [WAY],
    "result": "passes through service node ids",
}


def test_a_trace_reads_from_arrival_to_result() -> None:
    """Every line says what it is about."""
    assert [f"{name}: {text}" for name, text in lines(ROW)] == [
        f"flow: {FLOW}: live (established)",
        "arrives: by ew-lan, conntrack zone 1101",
        "source: 172.16.1.11: guest r1 on h1",
        "instruction: redirect to ids",
        "destination: 172.16.1.13: guest r3 on h1",
        "translation: destination becomes 172.16.1.13:8080 (VIP web, backend r3)",
        "rules: port of r1 (source): rule 1a2b3c4d, number 2, application: allow tcp: allow",
        "rules: the edge: default: inbound: allow (so)",
        "action: redirect ids, engine 2",
        "differs: the record says deny",
        "next hop: dev ew-lan",
        "record: deny, engine 2, generation 4, stale: will be judged again at its next packet",
        "result: passes through service node ids",
    ]


def test_a_trace_with_several_ways_numbers_them() -> None:
    """What was never judged says so."""
    never = {"engine": None, "generation": None, "judged": "never", "action": None}
    said = list(lines(ROW | {"ways": [WAY, WAY], "record": never, "instruction": None}))
    assert [text for name, text in said if name == "one of"] == ["2 ways, number 1", "2 ways, number 2"]
    assert ("record", "never judged") in said
    assert "instruction" not in dict(said)
