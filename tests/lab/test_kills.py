"""Every process of the zone is killed in turn under traffic: no established flow is lost, everything converges again."""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.lab.zone import Echo, Flow, Zone
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVER, VIP = "198.51.100.10", "203.0.113.80"
KINDS = {
    "gobgpd": "gobgpd ",
    "exabgp child": "exabgp_child",
    "exabgp": "exabgp_wrapper",
    "native": "routing.engines.native ",
}
NODES = ("rs1", "rs2", "h1", "h2", "gw1", "gw2")


@dataclass(frozen=True, slots=True)
class Victim:
    """A process by its place and kind."""

    node: str
    kind: str
    pid: int


def kind_of(command: str) -> str | None:
    """Name a process and its speaker by its command line; None for helpers nobody misses."""
    speaker = re.search(r"/run/edgeway/(?:gobgp|exabgp|native)/(\w+)", command)
    for kind, mark in KINDS.items():
        if mark in command and speaker is not None:
            return f"{kind} {speaker[1]}"
    return "daemon" if "edgeway run" in command else None


def victims(zone: Zone, node: str) -> list[Victim]:
    """Return every process of ours in a node."""
    return [Victim(node, kind, pid) for pid, line in sorted(zone.processes(node).items()) if (kind := kind_of(line))]


@pytest.fixture(scope="module")
def servers(zone: Zone) -> Iterator[None]:
    """Echo servers outside and in a guest."""
    echoes: list[Echo] = [zone.serve("server", 7100), zone.serve("r2", 7101)]
    yield
    for echo in echoes:
        echo.close()


@pytest.fixture(scope="module")
def flows(zone: Zone, servers: None) -> Iterator[dict[str, Flow]]:
    """Connections that live through every kill."""
    zone.green()
    opened = {
        "r1 to the outside": zone.connect("r1", SERVER, 7100, timeout=60),
        "r2 to the outside": zone.connect("r2", SERVER, 7100, timeout=60),
        "b1 to the outside": zone.connect("b1", SERVER, 7100, timeout=60),
        "r1 to r2 over the overlay": zone.connect("r1", "172.16.1.12", 7101, timeout=60),
    }
    yield opened
    for flow in opened.values():
        flow.close()


@pytest.mark.parametrize("node", NODES)
def test_no_process_is_missed(
    zone: Zone, flows: dict[str, Flow], node: str, record_property: Callable[[str, object], None]
) -> None:
    """Each process is killed -9: flows answer meanwhile, another process takes its place, the zone is green again."""
    kinds = [victim.kind for victim in victims(zone, node)]
    assert kinds
    for kind in kinds:
        victim = next(each for each in victims(zone, node) if each.kind == kind)
        before = {each.pid for each in victims(zone, node)}
        os.kill(victim.pid, signal.SIGKILL)
        begun = time.monotonic()
        answers = {name: flow.echo(f"{node} {kind}") for name, flow in flows.items()}
        assert set(answers.values()) == {f"{node} {kind}"}
        _another(zone, node, kind, before)
        zone.green()
        line = f"{node:4} {kind:21} flows kept {len(answers)}/{len(flows)}, green {time.monotonic() - begun:5.1f} s"
        record_property("measured", line)
        after = victims(zone, node)
        assert victim.pid not in {each.pid for each in after}
        assert {each.kind for each in after} >= {kind}
        assert {each.pid for each in after} - before


def _another(zone: Zone, node: str, kind: str, old: set[int]) -> None:
    """Wait until another process of a kind runs: a zone may look green before it has missed the old one."""

    def started() -> bool:
        return bool({victim.pid for victim in victims(zone, node) if victim.kind == kind} - old)

    eventually(started, what=f"another {kind} starts at {node}")


@pytest.mark.parametrize("node", ["h1", "gw2"])
def test_a_daemon_killed_at_any_moment_of_its_start_disturbs_nobody(
    zone: Zone, flows: dict[str, Flow], node: str
) -> None:
    """Ten times in a row the daemon is killed at another moment after it was started; it converges, flows go on."""
    for step in range(10):
        running = [victim.pid for victim in victims(zone, node) if victim.kind == "daemon"]
        for pid in running:
            os.kill(pid, signal.SIGKILL)
        _another(zone, node, "daemon", set(running))
        time.sleep(step * 0.15)  # another moment each time: before the kernel is read, in the middle, after
        assert {flow.echo(f"{node} {step}") for flow in flows.values()} == {f"{node} {step}"}
    zone.green()
