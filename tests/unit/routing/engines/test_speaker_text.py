from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from routing.bgp.codec import speaker_from_json, speaker_to_json
from routing.bgp.values import Announcement, ImportPolicy, Mode, Neighbor, PrefixRule, Speaker
from routing.engines.speaker_text import Draft, lines

RULE = PrefixRule(IPv4Network("10.0.0.0/8"), 8, 24)
SPEAKER = Speaker(
    "rs",
    Mode.TRANSPARENT,
    65000,
    IPv4Address("192.0.2.254"),
    (IPv4Address("192.0.2.254"),),
    neighbors=tuple(
        Neighbor(f"n{n}", 65000 + n, IPv4Address("192.0.2.0") + n, imports=ImportPolicy((RULE,))) for n in range(1, 4)
    ),
    announcements=(Announcement(IPv4Network("203.0.113.0/24")),),
)


@pytest.mark.parametrize("speaker", [SPEAKER, replace(SPEAKER, neighbors=()), replace(SPEAKER, announcements=())])
def test_a_speaker_survives_line_by_line_and_as_a_document(speaker: Speaker) -> None:
    """Every neighbour is a line, and all lines together are JSON."""
    text = list(lines(speaker))
    assert len(text) == len(speaker.neighbors) + 2
    assert Draft().read(text) == speaker
    assert speaker_from_json(json.loads(b"\n".join(text))) == speaker


def test_a_document_in_one_line_is_read_as_well() -> None:
    """Files were once written so."""
    assert Draft().read([json.dumps(speaker_to_json(SPEAKER)).encode() + b"\n"]) == SPEAKER


def test_a_neighbour_that_is_told_again_is_the_same_object() -> None:
    """So whoever compares the speakers sees at once who has changed."""
    first = Draft()
    before = first.read(lines(SPEAKER))
    changed = replace(SPEAKER, neighbors=(SPEAKER.neighbors[2], replace(SPEAKER.neighbors[0], hold_time=9)))
    second = Draft(first)
    after = second.read(lines(changed))
    assert after == changed
    assert after.neighbors[0] is before.neighbors[2]
    third = Draft(second).read(lines(SPEAKER))
    assert third == SPEAKER
    assert third.neighbors[2] is before.neighbors[2]
    assert third.neighbors[1] is not before.neighbors[1], "what was dropped is not kept for ever"


def test_rules_are_the_same_object_as_long_as_they_are_told() -> None:
    """In one text, and from one to the next, though the neighbour's line is another; then they are forgotten."""
    first = Draft()
    before = first.read(lines(SPEAKER))
    changed = tuple(replace(neighbor, hold_time=30) for neighbor in SPEAKER.neighbors)
    second = Draft(first)
    after = second.read(lines(replace(SPEAKER, neighbors=changed)))
    assert len({id(neighbor.imports.accept) for neighbor in (*before.neighbors, *after.neighbors)}) == 1
    kept = len(second.rules)
    others = tuple(replace(neighbor, imports=ImportPolicy((), (RULE, RULE))) for neighbor in changed)
    third = Draft(second)
    third.read(lines(replace(SPEAKER, neighbors=others)))
    assert len(third.rules) == kept


def test_text_that_ends_too_early_is_no_speaker() -> None:
    """A file is whole or not there; a connection may break."""
    with pytest.raises(ValueError, match="too early"):
        Draft().read(list(lines(SPEAKER))[:-1])
