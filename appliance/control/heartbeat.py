"""What the service manager hears of a daemon: ready, alive, stopping (sd_notify(3), sd_watchdog_enabled(3)).

Called by `appliance.control.main`. A daemon is alive when its event loop turns and the round of its loop that is under way
began not too long ago: one that waits for ever for something is started again, and loses nothing by it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import structlog

log = structlog.get_logger()

#: Seconds that a round may take. Engines are waited for half a minute each, and a large intent without a processor's help
#: takes minutes.
LONGEST_ROUND: Final = 600.0
#: Signs of life in the time after which the service manager gives up.
BEATS: Final = 4


class Living(Protocol):
    """What is looked at: since when the round under way has been, None between two."""

    node: str
    revision: int
    busy_since: float | None

    @property
    def converged(self) -> bool:
        """Whether kernel and engines were led to the intent."""


def notify(text: str, environ: Mapping[str, str] = os.environ) -> None:
    """Tell the service manager, if there is one."""
    address = environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.connect("\0" + address[1:] if address.startswith("@") else address)
            channel.send(text.encode())


def pause(environ: Mapping[str, str] = os.environ, pid: int | None = None) -> float | None:
    """Return the seconds between two signs of life; None if nobody waits for ours."""
    within = environ.get("WATCHDOG_USEC", "")
    whose = environ.get("WATCHDOG_PID", "")
    if not within.isdecimal() or not int(within) or whose not in {"", str(os.getpid() if pid is None else pid)}:
        return None
    return int(within) / 1e6 / BEATS


def wedged(daemon: Living, now: float) -> bool:
    """Tell whether the daemon's loop waits for something that does not come."""
    return daemon.busy_since is not None and now - daemon.busy_since > LONGEST_ROUND


async def beat(
    daemon: Living, every: float, tell: Callable[[str], None] = notify, clock: Callable[[], float] = time.monotonic
) -> None:
    """Give a sign of life again and again, as long as there is life."""
    while True:
        if wedged(daemon, clock()):
            log.error("wedged", node=daemon.node, revision=daemon.revision)
        else:
            state = "converged" if daemon.converged else "not converged yet"
            tell(f"WATCHDOG=1\nSTATUS=node {daemon.node}, revision {daemon.revision}, {state}")
        await asyncio.sleep(every)
