"""The API process as a process: this test is the ExaBGP at the other end of its pipes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from queue import Queue
from typing import Any, TypeVar

import pytest

from appliance.model.errors import EngineError
from routing.bgp.values import ExportPolicy, ImportPolicy, Mode, Neighbor, PrefixRule, Speaker
from routing.engines.engine import SessionState
from routing.engines.exabgp import ExaBgpEngine
from routing.engines.exabgp_child import WINDOW
from routing.engines.exabgp_config import configuration
from routing.engines.exabgp_files import Files
from tests.support.waiting import eventually

T = TypeVar("T")
ROOT = Path(__file__).parents[4]
ANY = (PrefixRule(ip_network("0.0.0.0/0"), 0, 32),)
NEIGHBORS = tuple(
    Neighbor(f"n{n}", 65000 + n, IPv4Address("192.0.2.0") + n, imports=ImportPolicy(ANY), exports=ExportPolicy(ANY))
    for n in (1, 2)
)
SPEAKER = Speaker("rs", Mode.TRANSPARENT, 65000, IPv4Address("192.0.2.254"), (), neighbors=NEIGHBORS)


class ExaBgp:
    """What ExaBGP does with its API process: start it, tell it, answer its commands."""

    def __init__(self, directory: Path, *, answering: bool = True) -> None:
        """Start the API process in a directory."""
        self.files = Files(directory)
        self.commands: Queue[str] = Queue()
        self.answering = answering
        self.reload_error = ""
        env = {**os.environ, "EDGEWAY_DIRECTORY": str(directory), "PYTHONPATH": str(ROOT)}
        argv = [sys.executable, "-m", "routing.engines.exabgp_child"]
        self.process = subprocess.Popen(
            argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with suppress(ValueError, BrokenPipeError):  # the test has closed its end meanwhile
            for line in self.process.stdout:
                self.commands.put(line.strip())
                if self.answering:
                    if line.startswith("@reload"):
                        self.say({"type": "reloaded", "error": self.reload_error})
                    self.say("done")

    def say(self, *lines: dict | str) -> None:
        """Tell the process."""
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{x if isinstance(x, str) else json.dumps(x)}\n" for x in lines))
        self.process.stdin.flush()

    def neighbor(self, kind: str, number: int, **body: object) -> None:
        """Report something about a neighbour."""
        address = {"local": "192.0.2.254", "peer": f"192.0.2.{number}"}
        self.say({"type": kind, "neighbor": {"address": address, **body}})

    def up(self, number: int) -> None:
        """Report a session."""
        capabilities = {"1": {"families": ["ipv4/unicast"]}}
        self.neighbor("open", number, open={"router_id": f"10.0.0.{number}", "capabilities": capabilities})
        self.say({"type": "session", "address": f"192.0.2.{number}", "number": number})
        self.neighbor("state", number, state="up")

    def announced(self, number: int, *prefixes: str, med: int | None = None) -> None:
        """Report an UPDATE."""
        found = {"origin": "igp", "med": med, "as-path": {"0": {"element": "as-sequence", "value": [65000 + number]}}}
        announce = {"ipv4 unicast": {f"192.0.2.{number}": list(prefixes)}}
        self.neighbor("update", number, message={"update": {"attribute": found, "announce": announce}})

    def next(self) -> str:
        """Return the next command."""
        return self.commands.get(timeout=30)

    def ask(self, question: Callable[[ExaBgpEngine], Coroutine[Any, Any, T]]) -> T:
        """Ask the process as the daemon does."""
        return asyncio.run(question(ExaBgpEngine(self.files.directory)))

    def close(self) -> None:
        """End the process as a dying ExaBGP does: its pipe is closed."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(30)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., ExaBgp]]:
    """Start API processes in one directory; all are gone afterwards."""
    files = Files(tmp_path)
    files.write_speaker(SPEAKER)
    files.write_configuration(configuration(SPEAKER, sys.executable))
    started: list[ExaBgp] = []

    def begin(**options: bool) -> ExaBgp:
        started.append(ExaBgp(tmp_path, **options))
        return started[-1]

    yield begin
    for each in started:
        each.process.kill()
        each.process.wait(30)
        for pipe in (each.process.stdin, each.process.stdout):
            if pipe is not None and not each.process.stdin.closed:  # type: ignore[union-attr] # we made it
                pipe.close()


def test_it_begins_anew_serves_and_ends_with_exabgp(start: Callable[..., ExaBgp]) -> None:
    """Its first words are those of every start; it answers the daemon; when its pipe ends it ends."""
    exabgp = start()
    assert [exabgp.next(), exabgp.next()] == ["@reset", "@reload"]
    exabgp.up(1)
    exabgp.up(2)
    assert {exabgp.next(), exabgp.next()} == {"@eor 1 4", "@eor 2 4"}
    exabgp.announced(1, "10.0.0.0/24")
    assert exabgp.next() == "@announce 2 next-hop 192.0.2.1 origin igp as-path [ 65001 ] ; 10.0.0.0/24"
    (first, _) = exabgp.ask(lambda engine: engine.sessions())
    assert (first.state, first.received) == (SessionState.ESTABLISHED, 1)
    exabgp.close()
    assert exabgp.process.returncode == 0


def test_its_successor_waits_for_those_who_were_up(start: Callable[..., ExaBgp]) -> None:
    """End-of-RIB is held back until they have told their routes."""
    first = start()
    first.up(1)
    eventually(lambda: first.files.established() == (IPv4Address("192.0.2.1"),), what="who is up is written down")
    first.process.kill()
    second = start()
    assert [second.next(), second.next()] == ["@reset", "@reload"]
    second.up(2)
    second.announced(2, "10.0.0.0/24")
    second.up(1)
    assert second.next().startswith("@announce 1 ")
    # Without graceful restart nothing says that the first has told everything: a few seconds have to do.
    assert {second.next(), second.next()} == {"@eor 1 4", "@eor 2 4"}


def test_a_line_that_nobody_understands_costs_that_line(start: Callable[..., ExaBgp]) -> None:
    """What comes after it is heard."""
    exabgp = start()
    exabgp.say("{", "[1]", {"type": "state"}, {"type": "update", "neighbor": {"address": {"peer": "x"}}}, "\x00")
    exabgp.up(1)
    assert [exabgp.next() for _ in range(3)] == ["@reset", "@reload", "@eor 1 4"]


def test_unanswered_commands_are_limited_and_stdin_is_drained_meanwhile(start: Callable[..., ExaBgp]) -> None:
    """An ExaBGP that is busy is not buried, and can say more than a pipe holds without being read in turn."""
    exabgp = start(answering=False)
    exabgp.up(1)
    exabgp.up(2)
    for number in range(2000):
        exabgp.announced(1, f"10.{number >> 8}.{number & 255}.0/24", med=number)
    exabgp.announced(1, "10.255.0.0/24")
    taken = [exabgp.next() for _ in range(WINDOW)]
    assert taken[:2] == ["@reset", "@reload"]

    def heard() -> bool:
        views = exabgp.ask(lambda engine: engine.sessions())
        return bool(views[0].received == 2001)

    eventually(heard, what="everything is taken in")
    assert exabgp.commands.empty()
    exabgp.say("done")
    assert exabgp.next().startswith("@announce 2 ")


def test_a_new_speaker_is_applied_without_a_reload_if_sessions_stay(start: Callable[..., ExaBgp]) -> None:
    """Policies and announcements are ours alone; neighbours are ExaBGP's too."""
    exabgp = start()
    exabgp.up(1)
    exabgp.announced(1, "10.0.0.0/24")
    assert [exabgp.next() for _ in range(3)] == ["@reset", "@reload", "@eor 1 4"]
    changed = replace(SPEAKER, neighbors=(replace(NEIGHBORS[0], imports=ImportPolicy()), NEIGHBORS[1]))
    exabgp.ask(lambda engine: engine._tell(changed))
    (route,) = exabgp.ask(lambda engine: engine.routes())
    assert route.reason is not None
    assert exabgp.commands.empty()
    exabgp.ask(lambda engine: engine._tell(replace(SPEAKER, neighbors=NEIGHBORS[1:])))
    assert exabgp.next() == "@reload"
    assert "192.0.2.1" not in exabgp.files.configuration.read_text()
    assert Files(exabgp.files.directory).speaker().neighbors == NEIGHBORS[1:]


def test_a_configuration_that_exabgp_refuses_is_tried_again(start: Callable[..., ExaBgp]) -> None:
    """The error reaches the operator each time, until it is taken."""
    exabgp = start()
    assert [exabgp.next() for _ in range(2)] == ["@reset", "@reload"]
    wanted = replace(SPEAKER, neighbors=NEIGHBORS[1:])
    exabgp.reload_error = "line 3"
    for _ in range(2):
        with pytest.raises(EngineError, match="refuses its configuration: line 3"):
            exabgp.ask(lambda engine: engine._tell(wanted))
    exabgp.reload_error = ""
    exabgp.ask(lambda engine: engine._tell(wanted))
    exabgp.ask(lambda engine: engine._tell(wanted))
    assert [exabgp.next() for _ in range(3)] == ["@reload"] * 3
    assert exabgp.commands.empty()


def test_another_speaker_is_refused(start: Callable[..., ExaBgp]) -> None:
    """The daemon starts another process for it."""
    exabgp = start()
    assert exabgp.next() == "@reset"
    eventually(exabgp.files.socket.exists, what="it listens")
    with pytest.raises(EngineError, match="another process is needed"):
        exabgp.ask(lambda engine: engine._tell(replace(SPEAKER, asn=1)))
