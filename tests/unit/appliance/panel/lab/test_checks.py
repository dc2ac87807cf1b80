"""checks.yaml: what can be said, what is refused and where, what is run and how it is judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.model.errors import OperatorError
from appliance.panel.lab.checks import FORMS, Check, checks_of
from tests.support.intents import ROOT


def check(**keys: Any) -> Check:
    """Make a check from h1."""
    return Check.model_validate({"what": "x", "from": "h1"} | {k.replace("_", "-"): v for k, v in keys.items()})


def test_a_check_with_packets_is_one_command() -> None:
    """Its success is the check's; that of its opposite is its failure."""
    assert check(ping="192.0.2.1").command() == ["ping", "-n", "-c", "1", "-W", "2", "192.0.2.1"]
    assert check(tcp="[2001:db8::1]:80").command()[-1] == "exec 3<>/dev/tcp/2001:db8::1/80"
    assert [check(ping="192.0.2.1").holds(status, "") for status in (0, 1)] == [True, False]
    for form in ({"no_ping": "192.0.2.1"}, {"no_tcp": "192.0.2.1:80"}):
        assert [check(**form).holds(status, "") for status in (0, 1)] == [False, True]


@pytest.mark.parametrize(
    ("says", "says_not", "status", "output", "good"),
    [
        (None, None, 0, "", True),
        (None, None, 1, "", False),
        ("^AS 7$", None, 0, "one\nAS 7\n", True),
        ("^AS 7$", None, 0, "AS 78", False),
        ("7", None, 1, "7", False),
        (None, "7", 0, "8", True),
        (None, "7", 0, "7", False),
        (None, "7", 127, "not found", False),
        ("8", "7", 0, "8 7", False),
    ],
)
def test_a_command_succeeds_and_says_what_is_wanted(
    says: str | None, says_not: str | None, status: int, output: str, good: bool
) -> None:
    """A command that fails is never good: what does not answer says nothing wrong either."""
    made = check(run="birdc 'show route'", **{k: v for k, v in (("says", says), ("says_not", says_not)) if v})
    assert made.command() == ["birdc", "show route"]
    assert made.holds(status, output) is good


def test_how_a_check_is_made_is_said_in_words() -> None:
    """For the table of `edgeway lab status`."""
    assert check(routes=7).how == "h1: at least 7 routes"
    assert check(tcp="192.0.2.1:80").how == "h1: connect to 192.0.2.1:80"
    assert check(no_route="192.0.2.0/24").how == "h1: no route 192.0.2.0/24"
    assert check(run="birdc x", says="a", says_not="b").how == "h1: birdc x, says a, says not b"
    assert check(refused="192.0.2.0/24", because="BOGON").how == "h1: refused 192.0.2.0/24, because BOGON"


@pytest.mark.parametrize(
    ("row", "path", "message"),
    [
        ("{what: x, from: h1}", "checks.0", "give one of ping, no-ping, tcp"),
        ("{what: x, from: h1, ping: 192.0.2.1, tcp: '192.0.2.1:80'}", "checks.0", "give one of ping"),
        ("{what: x, from: h1, tcp: 192.0.2.1}", "checks.0.tcp", "give it as ADDRESS:PORT"),
        ("{what: x, from: h1, no-tcp: '$(reboot):80'}", "checks.0.no-tcp", "give it as ADDRESS:PORT"),
        ("{what: x, from: h1, ping: 192.0.2.1, often: 3}", "checks.0.often", "Extra inputs"),
        ("{what: x, ping: 192.0.2.1}", "checks.0.from", "Field required"),
        ("{what: x, from: h1, run: ''}", "checks.0.run", "the command is empty"),
        ('{what: x, from: h1, run: "a \'b"}', "checks.0.run", "No closing quotation"),
        ("{what: x, from: h1, run: a, says: '('}", "checks.0.says", "this is no regular expression"),
        ("{what: x, from: h1, ping: 192.0.2.1, says: a}", "checks.0", "go with `run`"),
        ("{what: x, from: h1, route: 192.0.2.0/24, because: BOGON}", "checks.0", "goes with `refused`"),
        ("{what: x, from: h1, no-route: 192.0.2.1/24}", "checks.0.no-route", "has host bits set"),
        ("{what: x, from: h1, routes: 0}", "checks.0.routes", "greater than or equal to 1"),
        ("x", "checks.0", "valid dictionary"),
    ],
)
def test_a_check_that_is_none_is_a_finding(tmp_path: Path, row: str, path: str, message: str) -> None:
    """With its place in the file, and nothing of it ever reaches a shell."""
    (tmp_path / "checks.yaml").write_text(f"checks:\n  - {{what: good, from: h1, ping: h2}}\n  - {row}\n")
    with pytest.raises(OperatorError) as caught:
        checks_of(tmp_path / "az.clab.yml")
    (finding,) = caught.value.findings
    assert (finding.line, finding.path) == (3, path.replace("0", "1", 1))
    assert message in finding.message


@pytest.mark.parametrize("text", ["checks: 7", "[x]", "check: []"])
def test_a_file_that_holds_no_checks_is_a_finding(tmp_path: Path, text: str) -> None:
    """A key that is written wrongly would be a lab without checks."""
    (tmp_path / "checks.yaml").write_text(text)
    with pytest.raises(OperatorError, match="must"):
        checks_of(tmp_path / "az.clab.yml")


@pytest.mark.parametrize("text", ["", "checks:\n", "checks: []\n"])
def test_a_file_without_checks_has_none(tmp_path: Path, text: str) -> None:
    """One may be in the making."""
    (tmp_path / "checks.yaml").write_text(text)
    assert checks_of(tmp_path / "az.clab.yml") == ()


@pytest.mark.parametrize("topology", sorted((ROOT / "labs").glob("*/*.clab.yml")), ids=lambda path: path.parent.name)
def test_the_labs_of_the_repository_have_checks_that_can_be_read(topology: Path) -> None:
    """They are part of its documentation, and none is from a node that is not there."""
    checks = checks_of(topology)
    assert checks
    assert {each.form for each in checks} <= set(FORMS)
