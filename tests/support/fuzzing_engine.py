"""Octets that are nearly right against the rest of our own BGP engine: both forms of what is hot, tables, sessions, side door.

Continues `tests.support.fuzzing`, whose corpora these targets spoil. `python -m tests.support.fuzzing_engine 10` runs all
targets in turn for ten minutes, on the form of `routing.bgp.hot` that EDGEWAY_PURE chooses, and names the target and the
seed of what fails; a second number is the seed to begin with.
"""

from __future__ import annotations

import io
import json
import select
import socket
import sys
import tempfile
import time
from contextlib import closing, redirect_stderr
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from typing import Any

from routing.bgp import hot
from routing.bgp.hot import split
from routing.bgp.intake import Intake
from routing.bgp.messages import (
    SHORT_LIMIT,
    Notify,
)
from routing.bgp.nlri import WIDTHS, each
from routing.bgp.routeserver import RouteServer
from routing.bgp.session import Established
from routing.bgp.update import Format
from routing.bgp.values import (
    Family,
    Reason,
)
from routing.engines.native.connection import listen
from routing.engines.native.control import Control
from routing.engines.native.core import Core
from routing.engines.speaker_text import lines
from tests.support import fuzzing
from tests.support.fuzzing import LONGEST, Target, some_format, some_prefixes, some_update, spoiled, spoiled_attributes
from tests.support.fuzzing_sessions import (
    BOTH,
    HERE,
    US,
    an_update,
    at,
    fuzz_core,
    fuzz_peering,
    neighbor,
    some_message,
    speaker,
)
from tests.support.hot import PYTHON, C, outcome

CODES = {family: family.value[0] << 8 | family.value[1] for family in Family}


# --- both forms -------------------------------------------------------------------------------------------------


def fuzz_forms(rng: Random) -> None:
    """Whatever comes, the C form says what the Python form says."""
    if C is None:
        return
    agreed = some_format(rng)
    stream = b"".join(some_message(rng, agreed, fuzzing.some_open(rng)) for _ in range(rng.randrange(5)))
    stream = spoiled(rng, stream)
    _same("split", stream, rng.choice((SHORT_LIMIT, LONGEST)))
    _, attributes, _ = some_update(rng, agreed)
    attributes = rng.choice((spoiled, spoiled_attributes))(rng, attributes)
    _same("lift", attributes)
    for internal in (False, True):
        _same("scan", attributes, internal)
    family = rng.choice(list(Family))
    _same("normal", spoiled(rng, some_prefixes(rng, family)), rng.choice(list(WIDTHS.values())))
    nlri = some_prefixes(rng, family, 0)
    _same("count", nlri)
    _same("cut", nlri, rng.choice((17, 18, 30, 100)))
    _same("withdraw", CODES[family], nlri, rng.choice((23, 40, 60, SHORT_LIMIT)))
    _same("announce", attributes, nlri, rng.choice((23, 60, 120, SHORT_LIMIT)))
    _same_filters(rng, family)
    _same_tables(rng, family)


def _same(name: str, *arguments: Any) -> None:
    pure, compiled = (outcome(getattr(form, name), *arguments) for form in (PYTHON, C))
    assert pure == compiled, f"{name}{arguments}: {pure} but in C {compiled}"


def _same_filters(rng: Random, family: Family) -> None:
    width = WIDTHS[family]
    rules = [(one, rng.randint(0, width), rng.randint(0, width)) for one in each(some_prefixes(rng, family, 0))]
    nlri = some_prefixes(rng, family, 0) + b"".join(rule[0] for rule in rules)
    pure, compiled = (outcome(form.PrefixFilter, width, rules) for form in (PYTHON, C))
    assert pure[0] == compiled[0]
    if pure[0] == "returned":
        assert pure[1].split(nlri) == compiled[1].split(nlri)


def _same_tables(rng: Random, family: Family) -> None:
    labels = [object() for _ in range(3)]
    tables = [form.PrefixTable(WIDTHS[family]) for form in (PYTHON, C)]
    known = [some_prefixes(rng, family) for _ in range(4)]
    for _ in range(rng.randrange(20)):
        nlri, label = rng.choice(known), rng.choice((None, *labels))
        if rng.random() < 0.8:
            told = [sorted(table.relabel(nlri, lambda _, label=label: label), key=str) for table in tables]
        else:
            told = [table.relabel_all(labels[0], label) for table in tables]
        assert told[0] == told[1]
        if rng.random() < 0.2:
            _same_changes(*tables)
    _same_changes(*tables)
    for one in [one for nlri in known for one in each(nlri)]:
        assert tables[0].get(one) is tables[1].get(one)
    assert sorted(tables[0].labels(), key=str) == sorted(tables[1].labels(), key=str)
    assert len(tables[0]) == len(tables[1])


def _same_changes(*tables: Any) -> None:
    told = [
        {(one, id(before), id(after)) for before, after, nlri, _ in table.take_changes() for one in each(nlri)}
        for table in tables
    ]
    assert told[0] == told[1]


# --- the tables -------------------------------------------------------------------------------------------------


class Thorough(Intake):
    """Reads everything closely."""

    __slots__ = ()

    def _briefly(self, *_: bytes) -> bool:
        return False


class Place:
    """A server with a neighbour that is up."""

    def __init__(self, agreed: Format, kind: type[Intake]) -> None:
        """Establish the session."""
        self.server = RouteServer(speaker(neighbor(1, asn=US if agreed.internal else US + 1)), 0)
        session = Established(IPv4Address(1), HERE, agreed.families, agreed.extended_next_hop, 90, BOTH, BOTH)
        assert self.server.session_up(at(1), session, agreed, 0)
        self.peer = self.server.peers[at(1)]
        self.intake = kind(self.server, self.peer, agreed)

    def take(self, found: list[Any]) -> Notify | None:
        """Take messages in; return what ends the session."""
        try:
            self.intake.take(found, 0)
        except Notify as fault:
            return fault
        return None

    def tables(self) -> dict[tuple[Family, bytes], Any]:
        """Return what the neighbour says."""
        found = {
            (family, one): (path.octets, path.next_hop, path.reason, path.avoid)
            for family, path, nlri in self.server.tables.said(self.peer)
            for one in each(nlri)
        }
        assert self.peer.received == len(found)
        assert self.peer.accepted == sum(said[2] is None for said in found.values())
        return found


def fuzz_intake(rng: Random) -> None:
    """The short way and the complete one end in the same place; what ends the session changes nothing."""
    agreed = some_format(rng)
    quick, slow = Place(agreed, Intake), Place(agreed, Thorough)
    for _ in range(8):
        found, _, _ = split(an_update(rng, agreed), LONGEST)
        before = quick.tables()
        ends = quick.take(found), slow.take(found)
        after = quick.tables()
        assert ends[0] == ends[1], found
        assert after == slow.tables(), found
        assert ends[0] is None or after == before, found
        for octets, _, reason, _ in after.values():
            assert (octets == b"") == (reason is Reason.MALFORMED)
    assert quick.intake.detail.isprintable()


# --- the side door ----------------------------------------------------------------------------------------------


def fuzz_control(rng: Random) -> None:
    """Nonsense costs its connection at most: the next one is answered, and the tables are as they were."""
    core = Core(speaker(neighbor(1), neighbor(2)), 0.0)
    with tempfile.TemporaryDirectory(prefix="ewt-fuzz-") as directory:
        path = Path(directory, "rib.sock")
        with closing(Control(core, listen(path))) as control:
            bad = b"".join(spoiled(rng, line) if rng.random() < 0.3 else line for line in _requests(rng))
            with redirect_stderr(io.StringIO()):
                _talk(control, path, bad, patient=False)
            core.settle()
            heard = _talk(control, path, b'{"id": 7, "method": "sessions"}\n', patient=True)
            assert json.loads(heard.splitlines()[-1]) == {"id": 7, "result": True}
    assert core.server.speaker.asn == US


def _requests(rng: Random) -> list[bytes]:
    said: list[dict[str, Any]] = [
        {"method": "sessions"},
        {"method": "routes", "prefix": rng.choice((None, "10.0.0.0/8")), "neighbor": rng.choice((None, "n1"))},
        {"method": "watch"},
        {"method": "cease", "subcode": 2},
        {"method": "apply"},
    ]
    found: list[bytes] = []
    for number in range(rng.randint(1, 4)):
        request = rng.choice(said)
        found.append(json.dumps({"id": number, **request}).encode() + b"\n")
        if request["method"] == "apply":
            found += [line + b"\n" for line in lines(speaker(neighbor(1), neighbor(rng.choice((2, 3)))))]
    return found


def _talk(control: Control, path: Path, data: bytes, *, patient: bool) -> bytes:
    """Say something, serve until nothing is left to do, and return what was answered."""
    heard = bytearray()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.setblocking(False)
        client.send(data)
        if not patient:
            client.shutdown(socket.SHUT_WR)
        idle = 0
        while idle < 2:
            busy = _turn(control)
            try:
                heard += client.recv(1 << 16)
            except BlockingIOError:
                pass
            except OSError:
                break
            idle = 0 if busy else idle + 1
    _turn(control)
    return bytes(heard)


def _turn(control: Control) -> bool:
    poll = select.poll()
    for fileno, events in control.filenos().items():
        poll.register(fileno, events)
    ready = poll.poll(0)
    for fileno, events in ready:
        control.ready(fileno, events)
    return control.work() or bool(ready)


# --- for as long as one likes -----------------------------------------------------------------------------------


TARGETS: tuple[Target, ...] = (
    *fuzzing.TARGETS,
    fuzz_forms,
    fuzz_intake,
    fuzz_peering,
    fuzz_peering,
    fuzz_core,
    fuzz_control,
)


def main(minutes: float, seed: int) -> None:
    """Run all targets in turn for so long."""
    began = time.monotonic()
    form = "C" if hot.COMPILED else "Python"
    first, told = seed, began
    while time.monotonic() < began + minutes * 60:
        for target in TARGETS:
            try:
                target(Random(seed))
            except BaseException as error:
                error.add_note(f"{target.__name__}(Random({seed})), with the hot functions in {form}")
                raise
        seed += 1
        if time.monotonic() > told + 60:
            told = time.monotonic()
            sys.stdout.write(f"{(told - began) / 60:.0f} minutes: seeds {first} to {seed - 1}\n")
            sys.stdout.flush()
    sys.stdout.write(f"nothing found from seed {first} to {seed - 1}, with the hot functions in {form}\n")


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
