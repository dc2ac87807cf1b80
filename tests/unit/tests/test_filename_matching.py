"""The check that every source file has a test file finds what is missing and nothing else."""

from __future__ import annotations

from pathlib import Path

from tests.filename_matching import complaints


def tree(root: Path, *files: str) -> Path:
    """Make empty files."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_a_source_with_its_test_at_the_matching_path_is_fine(tmp_path: Path) -> None:
    """The path in tests/unit mirrors the package."""
    root = tree(tmp_path, "routing/bgp/rib.py", "tests/unit/routing/bgp/test_rib.py")
    assert complaints(root, {}) == []


def test_a_source_without_test_is_named_with_the_places_looked_at(tmp_path: Path) -> None:
    """The reader must see where to put the test."""
    root = tree(tmp_path, "appliance/kernel/nft.py")
    (said,) = complaints(root, {})
    assert said.startswith("appliance/kernel/nft.py: no test")
    assert "tests/unit/appliance/kernel/test_nft.py or tests/contract/test_nft.py" in said


def test_a_test_elsewhere_does_not_count(tmp_path: Path) -> None:
    """Same name, other path: that is another module's test."""
    root = tree(tmp_path, "services/nat.py", "tests/unit/routing/test_nat.py", "tests/contract/test_nat.py")
    assert len(complaints(root, {})) == 1


def test_ports_and_engines_may_be_tested_by_their_contract(tmp_path: Path) -> None:
    """A contract runs on the fake and the real one: better than a unit test."""
    root = tree(
        tmp_path,
        "appliance/kernel/bpf/cache.py",
        "tests/contract/bpf/test_cache.py",
        "routing/engines/gobgp.py",
        "tests/engines/test_gobgp.py",
    )
    assert complaints(root, {}) == []


def test_generated_and_empty_modules_are_not_asked_for(tmp_path: Path) -> None:
    """Nobody wrote them, or they hold no decision."""
    root = tree(tmp_path, "services/__init__.py", "appliance/__main__.py", "routing/engines/gobgp_api/gobgp_pb2.py")
    assert complaints(root, {}) == []


def test_an_exemption_ends_when_it_is_stale(tmp_path: Path) -> None:
    """The list must not outlive its reasons."""
    root = tree(tmp_path, "services/a.py", "services/b.py", "tests/unit/services/test_b.py")
    said = complaints(root, {"services/a.py": "constants", "services/b.py": "tested now", "services/c.py": "gone"})
    assert said == ["services/b.py: exempt, but it has a test", "services/c.py: exempt, but there is no such file"]
