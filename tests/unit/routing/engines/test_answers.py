from __future__ import annotations

import json
from collections.abc import Iterable
from ipaddress import IPv4Network, ip_network
from typing import Any

import pytest

from routing.bgp.nlri import pack
from routing.bgp.routeserver import Bests
from routing.bgp.values import Announcement, Attributes, Family
from routing.engines import answers, wire
from routing.engines.answers import Watcher
from routing.engines.engine import Best, Lost, Session, SessionState, Synced
from tests.support.fake_core import FakeCore, at, attributes, neighbor, speaker

MANY = [IPv4Network((0x0A000000 + (n << 8), 24)) for n in range(1200)]
SIX = [
    ip_network(text) for text in ("::/0", "2001:db8::/32", "2001:db8::ff00:0:0:0/80", "::ffff:0:0/96", "2000::1/128")
]


def lines(steps: Iterable[bytes]) -> list[dict[str, Any]]:
    """Return what was said; a step is nothing or one whole line."""
    said = [step for step in steps if step]
    assert all(step.endswith(b"\n") and step.count(b"\n") == 1 for step in said)
    return [json.loads(step) for step in said]


def items(steps: Iterable[bytes], request: int = 7) -> list[dict[str, Any]]:
    """Return the items of an answer, which must come to its end."""
    *parts, last = lines(steps)
    assert last == {"id": request, "result": True}
    assert {part["id"] for part in parts} <= {request}
    return [item for part in parts for item in part["part"]]


def events(steps: Iterable[bytes]) -> list[object]:
    """Return the events that a watcher was told."""
    return [wire.event_from_json(item) for line in lines(steps) for item in line["events"]]


def test_the_end_of_an_answer_is_good_or_an_error() -> None:
    """And a sign of life holds nothing."""
    assert lines([answers.end(3), answers.end(3, "no"), answers.patience(3)]) == [
        {"id": 3, "result": True},
        {"id": 3, "error": "no"},
        {"id": 3, "part": []},
    ]


def test_sessions_are_answered() -> None:
    """One item each."""
    core = FakeCore(speaker(neighbor(1), neighbor(2)))
    core.up(2)
    views = [wire.session_from_json(item) for item in items(answers.sessions(core, 7, 3.0))]
    assert [(view.name, view.uptime) for view in views] == [("n1", None), ("n2", 3.0)]


def test_every_prefix_is_written_as_it_would_be_alone() -> None:
    """Of both families, with the view that its label has."""
    core = FakeCore(speaker(neighbor(1), announcements=(Announcement(ip_network("0.0.0.0/0")),)))
    core.up(1)
    core.say(1, MANY)
    core.say(1, SIX, attributes(1, 9, communities=((65001, 1),)))
    answer = items(answers.routes(core, 7, None, None))
    views = {view.prefix: view for view in map(wire.route_from_json, answer)}
    assert len(answer) == len(views)
    assert views.keys() == {*MANY, *SIX, ip_network("0.0.0.0/0")}
    assert {(views[p].attributes, views[p].why, views[p].best) for p in MANY} == {(attributes(1), "only path", True)}
    assert {views[p].attributes.communities for p in SIX} == {((65001, 1),)}
    (one,) = items(answers.routes(core, 7, MANY[3], "n1"))
    assert one == wire.route_to_json(views[MANY[3]])


def test_a_long_answer_comes_in_parts_and_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step makes more than a line, and no line is long."""
    core = FakeCore(speaker(neighbor(1)))
    core.up(1)
    for number, prefix in enumerate(MANY[:40]):
        core.say(1, [prefix], attributes(1, number + 1))
    core.say(1, MANY[40:])
    parts = [len(line.get("part", ())) for line in lines(answers.routes(core, 7, None, None))]
    assert sum(parts) == len(MANY)
    assert max(parts) <= 2 * answers.PART
    assert len(parts) >= len(MANY) // answers.PART + 1
    steps = list(answers.routes(core, 7, None, None))
    assert steps.count(b"") >= 40, "each label is a step"
    monkeypatch.setattr(answers, "LONG", 1)
    parts = [len(line.get("part", ())) for line in lines(answers.routes(core, 7, None, "n1"))]
    assert parts.count(1) == 40


def test_a_watcher_is_told_who_is_up_every_best_path_and_that_this_is_all() -> None:
    """In this order."""
    core = FakeCore(speaker(neighbor(1)))
    core.up(1)
    core.say(1, MANY[:3])
    told = events(Watcher(routes=True).begin(core))
    assert told[0] == Session("n1", at(1), SessionState.ESTABLISHED)
    assert set(told[1:-1]) == {Best(prefix, attributes(1), "n1") for prefix in MANY[:3]}
    assert told[-1] == Synced()


def test_without_routes_best_paths_are_left_out() -> None:
    """At the beginning and later."""
    core = FakeCore(speaker(neighbor(1)))
    core.up(1)
    core.say(1, MANY[:3])
    watcher = Watcher(routes=False)
    assert [type(event) for event in events(watcher.begin(core))] == [Session, Synced]
    assert watcher.put([Best(MANY[0], None), Bests(Family.IPV4, pack(MANY), None), Lost("x")])
    assert events(watcher.news()) == [Lost("x")]


def test_before_everything_is_known_nobody_says_so() -> None:
    """After a restart it is news when it is."""
    core = FakeCore(speaker(neighbor(1)), [at(1)])
    core.up(1)
    core.say(1, MANY[:1])
    watcher = Watcher(routes=True)
    assert Synced() not in events(watcher.begin(core))
    core.server.end_of_rib(core.server.peers[at(1)], Family.IPV4, 1)
    core.server.end_of_rib(core.server.peers[at(1)], Family.IPV6, 1)
    assert watcher.put(core.news())
    assert events(watcher.news()) == [Synced()]


def test_what_happens_during_the_beginning_is_told_before_its_end() -> None:
    """Whoever forgets at the end what was not named must not forget a path that moved meanwhile."""
    core = FakeCore(speaker(neighbor(1)))
    core.watch(on=True)
    core.up(1)
    for number, prefix in enumerate(MANY[:20]):
        core.say(1, [prefix], attributes(1, number + 1))
    core.news()
    watcher = Watcher(routes=True)
    steps, said = watcher.begin(core), list[bytes]()
    for _ in range(8):
        said.append(next(steps))
    # Everything that was told moves to a label that is not to come, and everything else to one that was told.
    for number, prefix in enumerate(reversed(MANY[:20])):
        core.say(1, [prefix], attributes(1, number + 1))
    core.unsay(1, MANY[5:6])
    assert watcher.put(core.news())
    told = events([*said, *steps])
    assert told[-1] == Synced()
    known: dict[object, Attributes | None] = {}
    for event in told:
        if isinstance(event, Best):
            known[event.prefix] = event.attributes
    wanted: dict[object, Attributes | None] = {
        prefix: attributes(1, number + 1) for number, prefix in enumerate(reversed(MANY[:20]))
    }
    assert known == wanted | {MANY[5]: None}


def test_a_watcher_that_is_too_far_behind_is_known_by_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted packed, as it is kept; what was told no longer counts."""
    monkeypatch.setattr(answers, "BEHIND", 10_000)
    watcher, news = Watcher(routes=True), Bests(Family.IPV4, pack(MANY), None)
    assert not watcher
    assert watcher.put([news])
    assert watcher
    assert not watcher.put([news] * 2)
    assert len(events(watcher.news())) == 3 * len(MANY)
    assert not watcher
    assert watcher.put([news])
