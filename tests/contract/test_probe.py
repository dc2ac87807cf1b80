"""The capability probe, on this kernel."""

from __future__ import annotations

from pathlib import Path

from appliance.kernel import probe


def _namespaces() -> set[str]:
    found = set()
    for link in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            found.add(str(link.readlink()))
        except OSError:
            continue
    return found


def test_what_the_product_requires_is_present_here() -> None:
    """Everything without a substitute must work on this kernel, or nothing else can."""
    rows = {row["name"]: row for row in probe.capabilities()}
    missing = {
        name: row["detail"] for name, row in rows.items() if row["otherwise"] == "required" and not row["present"]
    }
    assert missing == {}


def test_every_missing_thing_names_its_substitute_and_the_kernels_words() -> None:
    """A capability that is absent says what is used instead and why it is absent."""
    for row in probe.capabilities():
        if not row["present"]:
            assert row["uses"] == row["otherwise"] != ""
            assert row["detail"]


def test_an_attempt_that_cannot_run_counts_as_missing() -> None:
    """A tool that is not installed is a missing capability, not an exception."""
    row = probe._try(probe.Attempt("nothing", "no-such-command-here", "nothing", "something else"))
    assert row["present"] is False
    assert row["uses"] == "something else"
