"""A second `apply` changes what differs and disturbs nothing else: sessions stay established."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from routing.bgp.values import ExportPolicy, Family, ImportPolicy, Mode, PrefixRule, Reason
from tests.support.lan import Lan
from tests.support.scenario import (
    EVERYTHING,
    World,
    client,
    name_of,
    neighbors,
    only,
    prefix,
    routes_of,
    running,
    speaker,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine
MEMBERS = ("bird", "frr", "openbgpd")


@pytest.fixture(scope="module")
def shared(engine_name: str) -> Iterator[World]:
    """Run a route server with three clients; a fourth router keeps knocking and is not named."""
    with Lan("rs", *MEMBERS, "other") as lan:
        wanted = [each for member in MEMBERS for each in neighbors(lan, member, only(member))]
        routers = {member: client(lan, member, routes_of(lan, member, 0, 1)) for member in (*MEMBERS, "other")}
        with running(lan, engine_name, speaker(lan, Mode.TRANSPARENT, wanted), routers) as world:
            yield world


@pytest.fixture
def world(shared: World) -> Iterator[World]:
    """Give the world in its first state; whatever a test changes is changed back, and no session may have noticed."""
    original = shared.speaker
    _expect(shared)
    before = _incarnations(shared)
    yield shared
    shared.apply(original)
    _expect(shared)
    assert _incarnations(shared) == before


def _incarnations(world: World) -> dict[tuple[str, Family], str | None]:
    return {(m, f): world.routers[m].incarnation(world.link(m, f)) for m in MEMBERS for f in Family}


def _expect(
    world: World,
    hidden: Callable[[str, str, int], bool] = lambda sender, receiver, number: False,
    senders: tuple[str, ...] = MEMBERS,
) -> None:
    """Every client has the routes of all senders but the hidden ones."""
    for family in Family:
        for receiver in MEMBERS:
            wanted = {
                prefix(sender, number, family): world.announced(sender, family)[prefix(sender, number, family)]
                for sender in senders
                for number in (0, 1)
                if sender != receiver and not hidden(sender, receiver, number)
            }
            world.expect(receiver, family, wanted)


def _changed(world: World, member: str, **fields: Any) -> None:
    """Apply the speaker with other fields in both sessions of a member."""
    names = {name_of(member, family) for family in Family}
    changed = [replace(n, **fields) if n.name in names else n for n in world.speaker.neighbors]
    world.apply(replace(world.speaker, neighbors=tuple(changed)))


def _but(member: str, number: int) -> tuple[PrefixRule, ...]:
    return tuple(PrefixRule.exact(prefix(member, number, family)) for family in Family)


def test_the_same_speaker_again_changes_nothing(world: World) -> None:
    """No session, no route, no uptime."""
    before = _incarnations(world)
    world.apply(world.speaker)
    world.apply(replace(world.speaker))
    _expect(world)
    assert _incarnations(world) == before


def test_a_narrower_import_policy_takes_routes_back(world: World) -> None:
    """What is not accepted any more leaves the others, listed with its reason, without the client doing anything."""
    _changed(world, "bird", imports=only("bird", never=_but("bird", 1)))
    _expect(world, lambda sender, receiver, number: (sender, number) == ("bird", 1))
    for family in Family:
        assert world.reasons(name_of("bird", family))[prefix("bird", 1, family)] == Reason.BOGON


def test_no_import_policy_takes_everything_back(world: World) -> None:
    """RFC 8212 holds for a change as well."""
    _changed(world, "frr", imports=ImportPolicy())
    _expect(world, lambda sender, receiver, number: sender == "frr")


def test_a_narrower_export_policy_takes_routes_back_from_that_client_only(world: World) -> None:
    """The others still have them."""
    _changed(world, "openbgpd", exports=ExportPolicy(accept=EVERYTHING, never=_but("frr", 0)))
    _expect(world, lambda sender, receiver, number: (sender, receiver, number) == ("frr", "openbgpd", 0))


def test_policies_of_several_clients_change_at_once(world: World) -> None:
    """One apply, three differences."""
    names = {name_of(member, family): member for member in MEMBERS for family in Family}
    given: dict[str, dict[str, Any]] = {
        "bird": {"imports": only("bird", never=_but("bird", 0))},
        "frr": {"exports": ExportPolicy()},
        "openbgpd": {"imports": ImportPolicy()},
    }
    changed = [replace(n, **given[names[n.name]]) for n in world.speaker.neighbors]
    world.apply(replace(world.speaker, neighbors=tuple(changed)))
    _expect(
        world,
        lambda sender, receiver, number: sender == "openbgpd" or receiver == "frr" or (sender, number) == ("bird", 0),
    )


def test_a_changed_session_concerns_that_neighbour_only(shared: World) -> None:
    """Another hold time needs a new session with that neighbour; the others keep theirs and every route is there."""
    _expect(shared)
    before = _incarnations(shared)
    _changed(shared, "frr", hold_time=60)
    _expect(shared)
    after = _incarnations(shared)
    assert {place: word for place, word in after.items() if place[0] != "frr"} == {
        place: word for place, word in before.items() if place[0] != "frr"
    }


def test_a_neighbour_added_and_removed_leaves_the_others_alone(world: World) -> None:
    """The newcomer is served at once; when it is removed, its routes go and it is not let in again."""
    before = world.speaker
    other = world.routers["other"]
    world.apply(replace(before, neighbors=(*before.neighbors, *neighbors(world.lan, "other", only("other")))))
    eventually(other.established, what="the newcomer is established")
    _expect(world, senders=(*MEMBERS, "other"))
    for family in Family:
        world.expect("other", family, {p: a for m in MEMBERS for p, a in world.announced(m, family).items()})
    world.apply(before)
    _expect(world)
    eventually(lambda: not any(other.established(each) for each in other.links), what="the newcomer is out")
    assert not any(view.name.startswith("other") for view in world.engine.sessions())
