"""Guests of labs/migration move to another host: what follows them, and which flows do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.driving import Lab
from tests.support.waiting import eventually

pytestmark = [pytest.mark.kernel, pytest.mark.engine]

LAB = "migration"
ADDRESS = "203.0.113.13"


def move(lab: Lab, host: str) -> None:
    """Run the lab's own script with the command of this environment."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = lab.topology.parent / "move"
    done = subprocess.run(
        [script, host], env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr


def test_announcement_and_packets_follow_the_guest(lab: Lab) -> None:
    """To the other host and back; flows without translation or with that of a public address go on."""
    servers = [lab.serve("m1", 7000), lab.serve("client", 7000)]
    outside, inside = lab.connect("client", ADDRESS, 7000), lab.connect("r1", "172.16.1.13", 7000)
    shared = lab.connect("m2", "198.51.100.10", 7000, timeout=5)
    assert shared.seen.startswith("203.0.113.1:")
    try:
        for host, next_hop in (("h2", "10.0.0.12"), ("h1", "10.0.0.11")):
            move(lab, host)

            def follows(next_hop: str = next_hop) -> bool:
                return f"via {next_hop} " in lab.out("gw1", "ip", "route", "get", ADDRESS)

            eventually(follows, what=f"the gateway's route leads to {host}")
            lab.green()
            assert [outside.echo(host), inside.echo(host)] == [host, host]
            if host == "h2":
                with pytest.raises(OSError, match=r"timed out|reset"):
                    shared.echo("its ports belong to h1")
    finally:
        for flow in (outside, inside, shared):
            flow.close()
        for server in servers:
            server.close()
