"""The one way in: text or file -> verified intent, or every finding."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.model.errors import OperatorError
from appliance.model.load import load, parse
from tests.support.intents import LAB, changed, one_vpc, to_yaml


def test_the_intent_of_the_lab_is_valid() -> None:
    """It is what the README shows."""
    intent = parse(LAB)
    assert sorted(intent.nodes) == ["gw1", "gw2", "h1", "h2", "rs1", "rs2"]
    assert sorted(intent.vpcs) == ["blue", "red"]


def test_a_file_is_loaded(tmp_path: Path) -> None:
    """With the name of the file in every finding."""
    path = tmp_path / "intent.yaml"
    path.write_text(LAB)
    assert load(path) == parse(LAB)
    path.write_text(LAB.replace("as: 64512", "as: x", 1))
    with pytest.raises(OperatorError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}:4:3: error: zone.as:")


@pytest.mark.parametrize("content", [None, b"zone: \xff\xfe\n"])
def test_a_file_that_cannot_be_read_is_a_finding(content: bytes | None, tmp_path: Path) -> None:
    """Absent, or no UTF-8."""
    path = tmp_path / "intent.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OperatorError) as error:
        load(path)
    assert str(path) in str(error.value)
    assert error.value.findings[0].hint == "give the path of a readable UTF-8 file"


def test_a_directory_is_a_finding_too(tmp_path: Path) -> None:
    """Whatever the kernel says about it."""
    with pytest.raises(OperatorError, match="Is a directory"):
        load(tmp_path)


def test_what_does_not_fit_together_is_found_with_its_place() -> None:
    """All of it, in the order of the file."""
    tree = changed(changed(one_vpc(), "nodes.h2.id", 11), "vpcs.red.guests.r2.host", "h9")
    with pytest.raises(OperatorError) as error:
        parse(to_yaml(tree), "f")
    lines = to_yaml(tree).splitlines()
    found = {finding.path: lines[finding.line - 1].strip() for finding in error.value.findings}
    assert found["nodes.h2.id"] == "id: 11"
    assert found["vpcs.red.guests.r2.host"] == "host: h9"
    assert list(error.value.findings) == sorted(error.value.findings)
