"""A seed is judged as a whole: a value, or every finding of every file; never an exception."""

from __future__ import annotations

import random

import pytest

from appliance.box.seed import LONGEST, judge
from appliance.model.errors import OperatorError
from tests.support.intents import LAB
from tests.support.seeds import KEY, META, errors, files, said, seed

RICH = f"""\
hostname: h9
users: [default, {{name: alice, sudo: 'ALL=(ALL) NOPASSWD:ALL', ssh_authorized_keys: ['{KEY}']}}]
write_files: [{{path: /etc/motd, content: aGk=, encoding: b64}}]
runcmd: [[ls, -l], "true"]
chpasswd: {{list: "admin:secret"}}
ntp: {{servers: [192.0.2.1]}}
edgeway: {{node: h1}}
"""
NET = """\
version: 2
ethernets:
  mgmt: {match: {macaddress: "52:54:00:00:00:01"}, set-name: mgmt0, dhcp4: true}
  eth1: {addresses: [10.0.0.1/24], routes: [{to: default, via: 10.0.0.254}]}
vlans: {v7: {id: 7, link: eth1}}
"""


def test_an_empty_volume_is_a_seed_that_its_content_names() -> None:
    """Nobody has to write anything."""
    judged = judge(lambda _: None)
    assert (judged.instance[:8], judged.meta, judged.hostname, judged.network) == ("content-", b"", "", None)


def test_the_name_is_user_data_s_before_meta_data_s() -> None:
    """As everywhere where seeds are read."""
    assert seed().hostname == "h1"
    assert seed("hostname: h9").hostname == "h9"
    assert seed("fqdn: h9.example.net").hostname == "h9"


def test_findings_of_all_files_come_at_once_with_their_places() -> None:
    """One look at the console is enough to mend a seed."""
    found = errors("hostname: '-'\nusers: 7\n", "version: 1\n", "instance-id: i\nlocal-hostname: 'a b'\n")
    assert {(one.file, one.line, one.column) for one in found} == {
        ("network-config", 1, 1),
        ("user-data", 2, 1),
        ("user-data", 3, 1),
        ("meta-data", 2, 1),
    }


def test_what_nobody_knows_is_told_by_name_and_stops_nothing() -> None:
    """Silence would look like success."""
    warnings = said(seed("packages: [x]\nfrob: 1\n", "version: 2\nfrob2: 1\n", f"{META}frob3: 1\n").warnings)
    assert set(warnings) == {"packages", "frob", "frob2", "frob3"}
    assert "is an image" in warnings["packages"]


def test_vendor_data_is_not_read_and_that_is_said() -> None:
    """Who writes it wants to know."""
    judged = judge({**files(), "vendor-data": b"#!/bin/sh\n"}.get)
    assert [warning.file for warning in judged.warnings] == ["vendor-data"]


@pytest.mark.parametrize("first", ["#!/bin/sh", "#include", "## template: jinja", "Content-Type: multipart/mixed"])
def test_user_data_of_another_kind_is_refused(first: str) -> None:
    """It would be half understood."""
    with pytest.raises(OperatorError, match="must be #cloud-config"):
        judge({**files(), "user-data": f"{first}\n".encode()}.get)


def test_keys_of_meta_data_may_be_a_list_or_a_mapping() -> None:
    """Clouds write either."""
    assert seed(meta=f"{META}public-keys: ['{KEY}']\n").keys == (KEY,)
    assert seed(meta=f"{META}public-keys: {{mine: '{KEY}'}}\n").keys == (KEY,)


def test_without_instance_id_another_content_is_another_instance() -> None:
    """And meta-data alone does not say that it is the same."""
    one, other = (seed(text, meta="local-hostname: h1\n") for text in ("hostname: a", "hostname: b"))
    assert one.instance != other.instance
    assert one.meta == b""


def test_what_is_no_text_or_too_long_is_a_finding() -> None:
    """A volume may hold anything."""
    with pytest.raises(OperatorError, match=r"meta-data:2:3: error: the file: is not UTF-8"):
        judge({"meta-data": b"a: b\nab\xff"}.get)
    with pytest.raises(OperatorError, match="longer than"):
        judge({"meta-data": b"#" * (LONGEST + 1)}.get)


def test_the_intent_is_judged_with_the_seed() -> None:
    """A wrong intent is a wrong seed: nothing of it is taken."""
    judged = seed("edgeway: {node: h1, intent_file: intent.yaml}", **{"intent.yaml": LAB})
    assert (judged.config.node, judged.config.intent) == ("h1", LAB)
    found = errors("edgeway: {node: h77, intent_file: intent.yaml}", **{"intent.yaml": LAB})
    assert "no node h77" in found[0].message
    found = errors("edgeway: {node: h1, intent_file: intent.yaml}", **{"intent.yaml": "nodes: 7\n"})
    assert {one.file for one in found} == {"intent.yaml"}


def test_any_text_gives_a_seed_or_findings() -> None:
    """Rich seeds with octets changed, lost and doubled: nothing else ever comes out."""
    dice, kinds = random.Random(9), set()
    base = {"meta-data": META, "user-data": f"#cloud-config\n{RICH}", "network-config": NET}
    assert judge({name: text.encode() for name, text in base.items()}.get).instance == "i-1"
    for _ in range(400):
        changed = {name: _changed(text, dice).encode(errors="replace") for name, text in base.items()}
        try:
            judge(changed.get)
            kinds.add("seed")
        except OperatorError as error:
            kinds.add("findings" if all(finding.line and finding.message for finding in error.findings) else "odd")
    assert kinds == {"seed", "findings"}


def _changed(text: str, dice: random.Random) -> str:
    for _ in range(dice.choice((0, 1, 1, 2))):
        place = dice.randrange(len(text))
        what = dice.choice(("~", "[", "{", "7", "-", ":", "\n", " ", "true", "", "null", "- x\n", "'", "é", "\x00"))
        text = text[:place] + what + text[place + dice.choice((0, 1, 1, 5)) :]
    return text
