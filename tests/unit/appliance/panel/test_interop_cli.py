from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from appliance.panel import cli
from routing.interop import run as running
from routing.interop import script
from routing.interop.run import Dut, Row
from routing.interop.script import Case, Verdict


def edgeway(*words: str) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(cli.app, ["interop", *words])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Dut]:
    """Put devices in the place of real ones that pass everything but where they are called after a result."""
    found: list[Dut] = []

    def run(dut: Dut, cases: Sequence[Case], **more: object) -> list[Row]:
        found.append(dut)
        wanted = {result.value: result for result in script.Result}.get(dut.name, script.Result.PASS)
        return [Row(case, Verdict(wanted, "[what] was seen")) for case in cases]

    monkeypatch.setattr(running, "run", run)
    return found


def test_presets_and_commands_are_columns(asked: list[Dut]) -> None:
    """A command is called after its program; the second of a name gets a number."""
    done = edgeway("--dut", "bird", "--dut", "/opt/bird -c {config}", "--dialect", "bird", "--only", "sessions/open")
    assert done.exit_code == 0
    assert re.search(r"^case +RFC +bird +bird#2 *$", done.stdout, re.MULTILINE)
    assert re.search(r"^sessions/open +4271 4.2 +MUST +pass +pass *$", done.stdout, re.MULTILINE)
    assert sorted(dut.command for dut in asked) == ["/opt/bird -c {config}", asked[0].dialect.command]


@pytest.mark.parametrize(("name", "code"), [("fail", 1), ("error", 1), ("differs", 0), ("pass", 0)])
def test_only_a_broken_must_is_a_failure(asked: list[Dut], name: str, code: int) -> None:
    """What was seen is told as it is."""
    done = edgeway("--dut", name, "--dialect", "none", "--only", "sessions/open")
    assert done.exit_code == code
    assert ("[what] was seen" in done.stdout) is (name != "pass")
    assert len(asked) == 1


def test_programs_get_json(asked: list[Dut]) -> None:
    """And nothing else."""
    found = json.loads(edgeway("--dut", "frr", "--only", "errors", "--json").stdout)
    assert found["counts"][0]["device"] == "frr"
    assert {case["case"].partition("/")[0] for case in found["cases"]} == {"errors"}


def test_cases_are_described() -> None:
    """With their RFC."""
    assert re.search(r"^transparency/as-path +7947 2.2.2.1 +SHOULD", edgeway("--list").stdout, re.MULTILINE)


def test_neighbours_are_printed() -> None:
    """For who writes the configuration."""
    assert re.search(r"^witnesses/w +192.0.2.10 +65010 +IPV4", edgeway("--print-neighbors").stdout, re.MULTILINE)


def test_a_template_of_one_s_own_is_a_dialect(asked: list[Dut], tmp_path: Path) -> None:
    """It says what it can."""
    path = tmp_path / "my.conf"
    path.write_text("asn ${asn}\n")
    words = ("--dut", "mine {config}", "--template", str(path), "--configured", "shun", "--only", "sessions/open")
    assert edgeway(*words).exit_code == 0
    assert (asked[0].name, asked[0].dialect.name, len(asked[0].dialect.knobs)) == ("mine", "template", 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to test"),
        (("--dut", "mine"), "this is a command"),
        (("--dut", "mine", "--dialect", "junos"), "there is no dialect junos"),
        (("--dut", "bird", "--only", "nonsense"), "there is no case or group nonsense"),
        (("--dut", "mine", "--template", "/no/such/file"), "No such file"),
        (("--dut", "mine", "--dialect", "none", "--configured", "magic"), "there is no such thing"),
    ],
)
def test_what_is_wrong_with_a_command_is_told(asked: list[Dut], words: tuple[str, ...], message: str) -> None:
    """Before anything is started."""
    done = edgeway(*words)
    assert done.exit_code == 1
    assert message in done.output
    assert asked == []
