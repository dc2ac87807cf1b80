"""Signs of life come while there is life, and only to who waits for them."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from appliance.control.heartbeat import LONGEST_ROUND, beat, notify, pause, wedged
from tests.support.fake_daemon import daemon
from tests.support.fake_node import quiet_vpc
from tests.support.intents import to_yaml


@dataclass
class Node:
    """What is looked at."""

    node: str = "h1"
    revision: int = 3
    busy_since: float | None = None
    converged: bool = True


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 15.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}, 15.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_signs_come_often_enough_for_who_waits_for_ours(environ: dict[str, str], found: float | None) -> None:
    """Some may be late; another process's watchdog is not ours (sd_watchdog_enabled(3))."""
    assert pause(environ, 7) == found


def test_a_round_that_goes_on_for_ever_is_no_life() -> None:
    """Between two rounds there is nothing to wait for; a long one is still one."""
    assert not wedged(Node(), 1e9)
    assert not wedged(Node(busy_since=100.0), 100.0 + LONGEST_ROUND)
    assert wedged(Node(busy_since=100.0), 100.1 + LONGEST_ROUND)


async def test_a_wedged_daemon_falls_silent_and_says_so_in_its_log() -> None:
    """The service manager acts then; one that comes round is alive again."""
    node, said, now = Node(converged=False), list[str](), [0.0]
    beating = asyncio.create_task(beat(node, 0.0, said.append, lambda: now[0]))

    async def until_said(count: int) -> None:
        async with asyncio.timeout(30):
            while len(said) < count:  # noqa: ASYNC110 - a list has no event
                await asyncio.sleep(0)

    with capture_logs() as logs:
        await until_said(1)
        node.busy_since, now[0] = 0.0, LONGEST_ROUND + 1
        await asyncio.sleep(0)
        count = len(said)
        async with asyncio.timeout(30):
            while not logs:  # noqa: ASYNC110 - a list has no event
                await asyncio.sleep(0)
        assert len(said) == count
        node.busy_since, node.converged = None, True
        await until_said(count + 1)
    beating.cancel()
    assert logs[0]["event"] == "wedged"
    assert said[0] == "WATCHDOG=1\nSTATUS=node h1, revision 3, not converged yet"
    assert said[-1] == "WATCHDOG=1\nSTATUS=node h1, revision 3, converged"


def test_without_a_service_manager_nobody_is_told() -> None:
    """In a container, in a lab, in a terminal."""
    notify("READY=1", {})


def test_an_abstract_socket_is_one_too() -> None:
    """It is written with an @ (sd_notify(3))."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0ewt-heartbeat")
        manager.settimeout(30)
        notify("READY=1", {"NOTIFY_SOCKET": "@ewt-heartbeat"})
        assert manager.recv(100) == b"READY=1"


def test_the_daemon_gives_signs_of_life(tmp_path: Path) -> None:
    """From its start on, again and again, if the service manager asks for them."""
    file = tmp_path / "intent.yaml"
    file.write_text(to_yaml(quiet_vpc()))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        with daemon(file, "h1", tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000"):
            heard = [manager.recv(200).decode() for _ in range(5)]
            while "READY=1" not in heard:
                heard.append(manager.recv(200).decode())
            heard.append(manager.recv(200).decode())
    assert [text.partition("\n")[0] for text in heard].count("WATCHDOG=1") >= 4
    assert heard[-1].startswith("WATCHDOG=1\nSTATUS=node h1, revision ")
