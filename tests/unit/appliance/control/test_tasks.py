"""Tasks are kept by name, started again when they fail, and end when they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from appliance.control.tasks import Tasks
from tests.support.waiting import eventually_async


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    """Give tasks that end with the test."""
    made = Tasks()
    yield made
    await made.stop()


async def forever() -> None:
    """Run until cancelled."""
    await asyncio.Event().wait()


async def test_a_task_runs_under_its_name_until_it_returns(tasks: Tasks) -> None:
    """Then the name is free."""
    go, seen = asyncio.Event(), []

    async def work() -> None:
        seen.append("begun")
        await go.wait()
        seen.append("done")

    tasks.start("work", work)
    await eventually_async(lambda: seen == ["begun"], what="the task begins")
    assert tasks.names() == {"work"}
    go.set()
    await eventually_async(lambda: tasks.names() == set(), what="the task ends")
    assert seen == ["begun", "done"]
    tasks.start("work", work)
    await eventually_async(lambda: seen == ["begun", "done", "begun", "done"], what="the name is used again")


async def test_a_second_start_of_a_running_name_does_nothing(tasks: Tasks) -> None:
    """Callers need not know whether it runs."""
    started = []

    async def work(number: int) -> None:
        started.append(number)
        await forever()

    tasks.start("work", lambda: work(1))
    tasks.start("work", lambda: work(2))
    await eventually_async(lambda: bool(started), what="one begins")
    assert started == [1]


async def test_a_task_that_fails_is_logged_and_started_again(tasks: Tasks) -> None:
    """Until it works."""
    tries = []

    async def work() -> None:
        tries.append(1)
        if len(tries) < 3:
            message = "not yet"
            raise OSError(message)

    with capture_logs() as logs:
        tasks.start("work", work, pause=0.001)
        await eventually_async(lambda: len(tries) == 3 and not tasks.names(), what="the third try returns")
    assert [(entry["event"], entry["task"]) for entry in logs] == [("task-failed", "work")] * 2


async def test_stopping_cancels_and_waits_for_the_end(tasks: Tasks) -> None:
    """What a task holds is released when `stop` returns."""
    released = []

    async def work() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            released.append(1)

    tasks.start("work", work)
    tasks.start("other", forever)
    await asyncio.sleep(0)
    await tasks.stop("work")
    assert released == [1]
    assert tasks.names() == {"other"}


async def test_a_task_that_waits_to_be_started_again_can_be_stopped() -> None:
    """The pause is no shelter."""
    made = Tasks()
    tries = []

    async def work() -> None:
        tries.append(1)
        raise ValueError

    made.start("work", work, pause=3600)
    await eventually_async(lambda: bool(tries), what="the first try fails")
    await made.stop()
    assert made.names() == frozenset()
    assert tries == [1]


async def test_stopping_without_a_name_stops_all_and_a_name_that_is_none_stops_nothing(tasks: Tasks) -> None:
    """Also what is stopped twice."""
    for name in "abc":
        tasks.start(name, forever)
    await tasks.stop("x")
    assert tasks.names() == set("abc")
    await tasks.stop("a")
    await tasks.stop("a")
    assert tasks.names() == {"b", "c"}
    await tasks.stop()
    assert tasks.names() == set()
