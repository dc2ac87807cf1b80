"""Which intent runs, and which ran before."""

from __future__ import annotations

import pytest

from appliance.control.commit import History, parse_for
from appliance.model.errors import OperatorError
from appliance.state.store import MemoryStore
from tests.support.intents import bare, changed, pair, to_yaml


@pytest.fixture
def history() -> History:
    """Give an empty history."""
    return History(MemoryStore())


def commit(history: History, text: str) -> None:
    """Commit a text of the file intent.yaml."""
    history.commit(history.version(text, "intent.yaml"))


def test_at_first_nothing_runs_and_nothing_ran_before(history: History) -> None:
    """A new machine."""
    assert history.running is None
    assert history.previous is None
    with pytest.raises(OperatorError, match="no previous intent"):
        history.before()


def test_a_commit_is_numbered_and_keeps_what_ran_before(history: History) -> None:
    """The number goes up, whatever the text."""
    for text in ("a", "b", "c"):
        commit(history, text)
    assert history.running is not None
    assert history.previous is not None
    assert (history.running.text, history.running.number) == ("c", 3)
    assert (history.previous.text, history.previous.number) == ("b", 2)


def test_the_same_text_again_is_the_same_version(history: History) -> None:
    """Otherwise a second reload would make rollback useless."""
    for text in ("a", "b", "b"):
        commit(history, text)
    assert history.running is not None
    assert history.previous is not None
    assert (history.running.number, history.previous.text) == (2, "a")


def test_the_version_before_gets_a_number_of_its_own(history: History) -> None:
    """Going back is a step forward in history: rolling back twice ends where it began."""
    for text in ("a", "b"):
        commit(history, text)
    history.commit(history.before())
    assert history.running is not None
    assert (history.running.text, history.running.number, history.running.file) == ("a", 3, "intent.yaml")
    history.commit(history.before())
    assert history.running is not None
    assert history.running.text == "b"


def test_asking_for_a_version_changes_nothing(history: History) -> None:
    """Only a commit does."""
    commit(history, "a")
    history.version("b", "other.yaml")
    assert history.running is not None
    assert history.running.text == "a"


def test_both_versions_are_written_at_once() -> None:
    """A crash between two writes would lose what to roll back to."""
    store = MemoryStore()
    history = History(store)
    commit(history, "a")
    commit(history, "b")
    assert store.keys("") == ["intent"]
    assert store.get("intent") is not None
    assert History(store).previous == history.previous


def test_an_intent_is_parsed_for_a_node_that_it_knows() -> None:
    """The same file serves all nodes."""
    assert parse_for("h1", to_yaml(pair()), "intent.yaml").nodes["h1"].id == 11
    with pytest.raises(OperatorError, match=r"intent.yaml has no node h9 \(nodes: gw1, h1, h2, rs1\)"):
        parse_for("h9", to_yaml(pair()), "intent.yaml")


def test_a_wrong_intent_gives_its_findings_whatever_the_node() -> None:
    """What is wrong is told before who is missing."""
    with pytest.raises(OperatorError) as caught:
        parse_for("h9", to_yaml(changed(bare(), "zone.as", "many")), "intent.yaml")
    assert [finding.path for finding in caught.value.findings] == ["zone.as"]
