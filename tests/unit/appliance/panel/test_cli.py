"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from appliance.kernel.fakes.kernel import fake_kernel
from appliance.kernel.kernel import Kernel
from appliance.model.errors import EngineError
from appliance.model.load import parse
from appliance.panel import cli
from appliance.panel.client import Client
from tests.support.fake_daemon import daemon, ready
from tests.support.fake_node import quiet_vpc
from tests.support.intents import ROOT, Tree, changed, pair, to_yaml

#: What `check`, `reference` and `--help` must not wait for.
HEAVY = ("grpc", "exabgp", "uvicorn", "starlette", "scapy", "httpx", "pyroute2", "rich", "asyncio", "structlog")


def edgeway(*words: object) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def write(path: Path, tree: Tree) -> Path:
    """Write an intent."""
    path.write_text(to_yaml(tree))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Give a right intent."""
    return write(tmp_path / "intent.yaml", quiet_vpc())


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """Give an intent with two findings."""
    return write(tmp_path / "bad.yaml", changed(changed(quiet_vpc(), "zone.as", "many"), "vpcs.red.id", 0))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the socket of a daemon of host h1 that has converged."""
    directory = tmp_path_factory.mktemp("daemon")
    with daemon(write(directory / "intent.yaml", quiet_vpc()), "h1", directory) as (process, client):
        ready(process, client)
        yield directory / "api.sock"


# -- check ------------------------------------------------------------------------------------------------------------


def test_check_of_a_right_file_says_what_it_holds(file: Path) -> None:
    """And nothing else."""
    done = edgeway("check", file)
    assert done.exit_code == 0
    assert done.stdout == f"{file}: 4 nodes, 0 peers, 1 VPCs: nothing wrong\n"


def test_check_lists_every_finding_as_compilers_do(bad: Path) -> None:
    """One line each, so that editors can jump there."""
    done = edgeway("check", bad)
    assert done.exit_code == cli.FINDINGS == 3
    places = [
        re.match(rf"{re.escape(str(bad))}:(\d+):(\d+): error: (\S+): ", line) for line in done.stdout.splitlines()
    ]
    assert [place and place[3] for place in places] == ["zone.as", "vpcs.red.id"]
    lines = bad.read_text().splitlines()
    for place, word in zip(places, ("as:", "id:"), strict=True):
        assert place is not None
        assert lines[int(place[1]) - 1][int(place[2]) - 1 :].startswith(word)


def test_check_gives_findings_to_programs_too(bad: Path, file: Path) -> None:
    """An empty list when nothing is wrong."""
    done = edgeway("check", bad, "--json")
    assert done.exit_code == 3
    assert [(row["path"], row["file"]) for row in json.loads(done.stdout)] == [
        ("zone.as", str(bad)),
        ("vpcs.red.id", str(bad)),
    ]
    done = edgeway("check", file, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == []


def test_a_finding_is_printed_letter_by_letter(tmp_path: Path) -> None:
    """An address like 2001:db8:a:100::1 holds no pictures."""
    address = "2001:db8:a:100::1"
    tree = changed(changed(pair(), "nodes.h1.loopback.ipv6", address), "nodes.h2.loopback.ipv6", address)
    done = edgeway("check", write(tmp_path / "x.yaml", tree))
    assert address in done.stdout


@pytest.mark.parametrize("command", [["check"], ["plan", "--node", "h1"], ["reload"]])
def test_a_file_that_cannot_be_read_is_a_failure_and_not_a_finding(tmp_path: Path, command: list[str]) -> None:
    """Nothing is known of the intent."""
    done = edgeway(command[0], tmp_path / "nothing.yaml", *command[1:], *(["--json"] if command == ["check"] else []))
    assert done.exit_code == 1
    assert "nothing.yaml" in done.output
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    assert edgeway(command[0], tmp_path / "binary.yaml", *command[1:]).exit_code == 1


def test_wrong_usage_has_its_own_exit_code(file: Path) -> None:
    """A missing option or an unknown word."""
    assert edgeway("plan", file).exit_code == 2
    assert edgeway("everything").exit_code == 2
    assert edgeway("check").exit_code == 2
    assert edgeway("check", file, "--yaml").exit_code == 2
    assert edgeway("--help").exit_code == 0


def test_the_reference_is_an_intent(tmp_path: Path) -> None:
    """It holds every key, so it checks itself."""
    done = edgeway("reference")
    assert done.exit_code == 0
    assert parse(done.stdout, "reference").nodes


@pytest.mark.parametrize(
    "command", [["check", "labs/az/intent.yaml"], ["reference"], ["--help"], ["show", "--help"], ["lab", "--help"]]
)
def test_what_needs_no_daemon_loads_nothing_of_one(command: list[str]) -> None:
    """They answer at once: an editor runs `check` at every save."""
    program = (
        "import sys\nfrom appliance.panel.cli import app\n"
        f"try:\n    app({command!r})\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# -- plan -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Put an untouched kernel where this machine's would be read."""
    kernel = fake_kernel()
    monkeypatch.setattr(Kernel, "real", lambda: kernel)
    return kernel


def test_plan_works_where_no_daemon_runs(file: Path, tmp_path: Path, kernel: Kernel) -> None:
    """It reads the kernel itself, and changes nothing."""
    done = edgeway("plan", file, "--node", "h1", "--json", "--socket", tmp_path / "none")
    assert done.exit_code == 0
    rows = json.loads(done.stdout)
    assert {"subsystem": "namespaces", "operation": "create", "object": "namespace vpc-red", "was": None} in rows
    assert {"subsystem": "bgp router", "operation": "create", "object": "speaker", "was": None} in rows
    assert not any(port.read() for port in kernel.ports.values())
    table = edgeway("plan", file, "--node", "h1", "--socket", tmp_path / "none").stdout
    assert "namespace vpc-red" in table
    assert len(table.splitlines()) == len(rows) + 1


def test_plan_of_a_wrong_file_tells_its_findings_on_standard_error(bad: Path, tmp_path: Path, kernel: Kernel) -> None:
    """Standard output stays empty: no plan was made."""
    done = edgeway("plan", bad, "--node", "h1", "--json", "--socket", tmp_path / "none")
    assert done.exit_code == 3
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 2


def test_plan_for_a_node_that_is_not_in_the_file_names_those_that_are(
    file: Path, tmp_path: Path, kernel: Kernel
) -> None:
    """A sentence, not a place in a file."""
    done = edgeway("plan", file, "--node", "h9", "--socket", tmp_path / "none")
    assert done.exit_code == 1
    assert done.stderr == f"error: {file} has no node h9 (nodes: gw1, h1, h2, rs1)\n"


def test_without_permission_plan_says_what_to_do(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback for want of root."""

    def real() -> Kernel:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Kernel, "real", real)
    done = edgeway("plan", file, "--node", "h1", "--socket", tmp_path / "none")
    assert done.exit_code == 1
    assert "run it as root" in done.stderr


def test_plan_asks_the_daemon_where_one_runs(file: Path, served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows what BGP and the backends say."""
    monkeypatch.setattr(Kernel, "real", None)
    done = edgeway("plan", file, "--node", "h1", "--json", "--socket", served)
    assert done.exit_code == 0
    assert json.loads(done.stdout) == []
    done = edgeway("plan", file, "--node", "h1", "--socket", served)
    assert done.stdout == "nothing would change\n"
    done = edgeway("plan", file, "--node", "h2", "--socket", served)
    assert done.exit_code == 1
    assert "runs node h1, not h2" in done.stderr


# -- with a daemon ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["status"], dict),
        (["nodes"], list),
        (["neighbors"], list),
        (["routes"], list),
        (["routes", "--neighbor", "rs1"], list),
        (["route", "203.0.113.0/24"], list),
        (["vpcs"], list),
        (["flows"], list),
        (["flows", "--vpc", "red"], list),
        (["plan"], list),
        (["capabilities"], list),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value.__name__,
)
def test_whatever_is_shown_is_a_table_or_json(served: Path, words: list[str], kind: type) -> None:
    """JSON on standard output, and nothing else."""
    done = edgeway("show", *words, "--json", "--socket", served)
    assert done.exit_code == 0, done.output
    assert isinstance(json.loads(done.stdout), kind)
    assert done.stderr == ""
    if words != ["capabilities"]:
        table = edgeway("show", *words, "--socket", served)
        assert table.exit_code == 0
        assert table.stdout


def test_a_route_nobody_announces_is_told_in_words(served: Path) -> None:
    """An empty table would not say of what."""
    done = edgeway("show", "route", "192.0.2.0/24", "--socket", served)
    assert done.stdout == "nobody announces 192.0.2.0/24\n"
    done = edgeway("show", "route", "everything", "--socket", served)
    assert done.exit_code == 1
    assert "give a prefix like" in done.stderr


def test_without_a_daemon_every_command_that_needs_one_says_how_to_start_it(file: Path, tmp_path: Path) -> None:
    """Not a traceback, and not an empty answer."""
    for words in (["show", "status"], ["reload", file], ["rollback"], ["show", "route", "192.0.2.0/24"]):
        done = edgeway(*words, "--socket", tmp_path / "none")
        assert done.exit_code == 1
        assert "edgeway run FILE --node NODE" in done.stderr
        assert done.stdout == ""


def test_reload_and_rollback_tell_what_changed(tmp_path: Path) -> None:
    """A wrong file is refused by the daemon, with its findings, and changes nothing."""
    file = write(tmp_path / "intent.yaml", quiet_vpc())
    socket = tmp_path / "api.sock"
    with daemon(file, "h1", tmp_path) as (process, client):
        ready(process, client)
        assert _json("rollback", "--socket", socket) is None
        write(file, pair())
        assert _json("reload", file, "--socket", socket)["changed"]["namespaces"] == 1
        assert Client(socket).show("vpcs") == []
        assert _json("reload", file, "--socket", socket) == {"changed": {}, "pending": [], "engines": {}}
        write(file, changed(pair(), "zone.as", "many"))
        done = edgeway("reload", file, "--socket", socket)
        assert done.exit_code == 3
        assert f"{file}:" in done.stderr
        assert _json("rollback", "--socket", socket)["changed"]["namespaces"] == 1
        assert "changed" in edgeway("rollback", "--socket", socket).stdout


def _json(*words: object) -> Any:
    """Return what a command prints for programs, None if it failed."""
    done = edgeway(*words, "--json")
    return json.loads(done.stdout) if done.exit_code == 0 else None


def test_an_error_that_is_not_the_operators_says_who_must_act(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And whether trying again can help."""

    def show(*_: object, **__: object) -> None:
        raise EngineError("gobgpd does not answer")

    monkeypatch.setattr(Client, "show", show)
    done = edgeway("show", "neighbors", "--socket", served)
    assert done.exit_code == 1
    assert done.stderr == "gobgpd does not answer (us must act; trying again can help)\n"


def test_run_ends_with_the_findings_of_a_wrong_file(bad: Path, tmp_path: Path) -> None:
    """In a namespace of its own: it is the real program."""
    words = ["run", bad, "--node", "h1", "--state", tmp_path / "state", "--socket", tmp_path / "api.sock"]
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "appliance", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 3, done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith(f"{bad}:")] != []
    assert "Traceback" not in done.stderr
