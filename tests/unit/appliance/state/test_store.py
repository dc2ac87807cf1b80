"""The store's contract, held by the dict and by the file alike; and what the file alone promises."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.state.store import MemoryStore, SqliteStore, Store

Make = Callable[[], Store]
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
steps = st.lists(
    st.tuples(st.sampled_from(["put", "swap"]), st.sampled_from("abé"), texts, st.integers(0, 3)), max_size=20
)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Give one store of each kind."""
    if request.param == "memory":
        yield MemoryStore()
        return
    with closing(SqliteStore(tmp_path / "var" / "state.db")) as made:
        yield made


def test_what_is_absent_is_none(store: Store) -> None:
    """And there are no keys."""
    assert store.get("blocks/red") is None
    assert store.keys("") == []


def test_every_write_counts_up(store: Store) -> None:
    """A revision never comes twice for one key."""
    assert [store.put("k", value) for value in "abc"] == [1, 2, 3]
    assert store.get("k") == ("c", 3)
    assert store.put("other", "x") == 1


def test_a_swap_writes_only_over_the_revision_that_was_read(store: Store) -> None:
    """So that two writers cannot both win."""
    assert store.swap("k", "first", 0)
    assert not store.swap("k", "late", 0)
    assert store.swap("k", "second", 1)
    assert not store.swap("k", "stale", 1)
    assert not store.swap("absent", "x", 1)
    assert store.get("k") == ("second", 2)
    assert store.get("absent") is None


@pytest.mark.parametrize("prefix", ["", "blocks/", "blocks/é", "%", "blocks_", "x"])
def test_keys_are_those_that_begin_with_a_prefix(store: Store, prefix: str) -> None:
    """Sorted; no character of a prefix is a pattern."""
    names = ["blocks/red", "blocks/blue", "blocks/é1", "history/1", "%", "blocksx", "BLOCKS/red"]
    for name in names:
        store.put(name, "{}")
    assert store.keys(prefix) == sorted(name for name in names if name.startswith(prefix))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(steps)
def test_the_file_does_what_the_dict_does(tmp_path: Path, script: list[tuple[str, str, str, int]]) -> None:
    """Any sequence of writes gives equal answers and equal contents."""
    memory = MemoryStore()
    (tmp_path / "db").unlink(missing_ok=True)
    with closing(SqliteStore(tmp_path / "db")) as sqlite:
        for operation, key, value, revision in script:
            if operation == "put":
                assert sqlite.put(key, value) == memory.put(key, value)
            else:
                assert sqlite.swap(key, value, revision) == memory.swap(key, value, revision)
        assert [(key, sqlite.get(key)) for key in sqlite.keys("")] == [
            (key, memory.get(key)) for key in memory.keys("")
        ]


def test_what_was_written_is_there_for_the_next_process(tmp_path: Path) -> None:
    """Without a close: a killed daemon does not close."""
    first = SqliteStore(tmp_path / "db")
    first.put("k", "v")
    with closing(SqliteStore(tmp_path / "db")) as second:
        assert second.get("k") == ("v", 1)
    first.close()


def test_the_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    """Also its write-ahead log, and the directory that was made for it."""
    with closing(SqliteStore(tmp_path / "var" / "db")) as store:
        store.put("k", "v")
        for path in (tmp_path / "var").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE((tmp_path / "var").stat().st_mode) == 0o700


def test_of_many_writers_with_one_revision_one_wins(tmp_path: Path) -> None:
    """Compare-and-swap between processes: each has a connection of its own."""
    won: list[int] = []

    def write(number: int) -> None:
        with closing(SqliteStore(tmp_path / "db")) as store:
            if store.swap("k", str(number), 0):
                won.append(number)

    SqliteStore(tmp_path / "db").close()
    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with closing(SqliteStore(tmp_path / "db")) as store:
        assert store.get("k") == (str(won[0]), 1)
    assert len(won) == 1
