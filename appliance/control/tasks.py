"""The one place where tasks are made: named, kept, and never dying in silence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger()


class Tasks:
    """A set of running tasks; a task that ends by an exception is logged and started again after a pause."""

    def __init__(self) -> None:
        """Start empty."""
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, work: Callable[[], Coroutine[Any, Any, None]], pause: float = 1.0) -> None:
        """Run `work` under a name until it returns or is stopped; a second start of a running name does nothing."""
        running = self._tasks.get(name)
        if running is None or running.done():
            self._tasks[name] = asyncio.create_task(self._run(name, work, pause), name=name)

    async def _run(self, name: str, work: Callable[[], Awaitable[None]], pause: float) -> None:
        while True:
            try:
                await work()
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("task-failed", task=name)
                await asyncio.sleep(pause)
            else:
                return

    def names(self) -> frozenset[str]:
        """Return the names of running tasks."""
        return frozenset(name for name, task in self._tasks.items() if not task.done())

    async def stop(self, *names: str) -> None:
        """Cancel tasks by name (all when none is given) and wait for their end."""
        chosen = [self._tasks.pop(name) for name in names or tuple(self._tasks) if name in self._tasks]
        for task in chosen:
            task.cancel()
        await asyncio.gather(*chosen, return_exceptions=True)
