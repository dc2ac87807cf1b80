"""What the process of our own engine must survive, seen by neighbours that say and hear octets.

Real processes in namespaces; what needs a hand inside runs the same core and loop in a thread of the test. As the daemon meets
the process is in `native/test_engine.py`, whatever neighbours may do at once in `test_native_soak.py`.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from pathlib import Path
from typing import Any

import pytest

from routing.bgp.attributes import encode
from routing.bgp.capabilities import Restart
from routing.bgp.intake import Intake
from routing.bgp.messages import Open
from routing.bgp.nlri import pack
from routing.bgp.values import Address, Attributes, Family, Mode, Neighbor, Network, Speaker, UnknownAttribute
from routing.engines.engine import SessionState
from routing.engines.native import loop as module
from routing.engines.native.core import Core
from routing.engines.native.engine import NativeEngine
from routing.engines.native.loop import Loop
from tests.support.crowd import Crowd, Guest, add_addresses, maker
from tests.support.engines import EngineOnLan, enter
from tests.support.lan import Lan
from tests.support.routers.bird import Bird
from tests.support.routers.common import Link, Route, Router, sequence
from tests.support.scenario import ACCEPT_ALL, SEND_ALL, SERVER, World, client, neighbors, only, routes_of, running
from tests.support.scenario import speaker as speaker_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.engine
V4 = Family.IPV4
BOTH = frozenset(Family)
P: list[Network] = [IPv4Network((0x0A000000 + (number << 8), 24)) for number in range(4000)]
HELPED = Restart(120, notification=True, families=tuple((family, True) for family in Family))


def at(number: int) -> IPv4Address:
    """Return the address of the n-th guest."""
    return IPv4Address("192.0.2.50") + number


def asn(number: int) -> int:
    """Return its AS number."""
    return 64600 + number


def said_by(number: int, **more: Any) -> Open:
    """Return its OPEN."""
    offered = Open(asn(number), 90, at(number), BOTH, four_octet=True, refresh=True, extended_message=True)
    return replace(offered, **more)


def attributes(number: int, **more: Any) -> Attributes:
    """Return what it says of its routes."""
    return replace(Attributes(at(number), as_path=sequence(asn(number))), **more)


def wanted(lan: Lan, *numbers: int, **more: Any) -> Speaker:
    """Return a route server for guests who come by themselves."""
    known = [
        Neighbor(
            f"g{number}",
            asn(number),
            at(number),
            families=tuple(Family),
            imports=ACCEPT_ALL,
            exports=SEND_ALL,
            passive=True,
        )
        for number in numbers
    ]
    listen = (lan.ipv4("rs"), lan.ipv6("rs"))
    return replace(Speaker("rs", Mode.TRANSPARENT, SERVER, lan.ipv4("rs"), listen, neighbors=tuple(known)), **more)


def heard(guest: Guest) -> dict[bytes, bytes]:
    """Return the attributes of the IPv4 prefixes that a guest knows."""
    return {prefix: octets for (family, prefix), octets in guest.table.items() if family is V4}


def table(said: Attributes, *prefixes: Network) -> dict[bytes, bytes]:
    """Return what a guest knows who was told so."""
    return dict.fromkeys((pack([prefix]) for prefix in prefixes), encode(said, V4))


def pid_of(engine: EngineOnLan) -> int:
    """Return the process of an engine."""
    found = engine._engine
    assert isinstance(found, NativeEngine)
    assert found._process is not None
    assert found._process.pid is not None
    return found._process.pid


def descriptors(pid: int) -> list[str]:
    """Return how many descriptors a process may have, and how many at most."""
    (line,) = [line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if "open files" in line]
    return line.split()[3:5]


def limit(pid: int, descriptors: str) -> None:
    """Let a process have so many descriptors; that is for root of the whole machine, or for its own user."""
    status = Path(f"/proc/{pid}/status").read_text().split()
    user, group = (int(status[status.index(name) + 1]) for name in ("Uid:", "Gid:"))
    command = ["prlimit", f"--pid={pid}", f"--nofile={descriptors}:"]
    subprocess.run(command, user=user, group=group, extra_groups=[], check=True)


class Party:
    """Guests on a LAN with an engine. `server` is where they connect to."""

    def __init__(self, lan: Lan, stack: ExitStack, *, room: int | None = None) -> None:
        """Seat nobody; `room`: octets that a guest's kernel takes for it."""
        self.lan = lan
        add_addresses(lan, "crowd", [at(number) for number in range(6)])
        make = stack.enter_context(maker(lan.namespace("crowd")))

        def narrow(family: socket.AddressFamily) -> socket.socket:
            made = make(family)
            if room is not None:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
            return made

        self.crowd = Crowd(narrow)
        stack.callback(self.crowd.close)

    def guest(self, number: int, server: Address | None = None, **more: Any) -> Guest:
        """Bring a guest up."""
        made = self.crowd.guest(at(number), server or self.lan.ipv4("rs"), said_by(number))
        return self.come(made, **more)

    def come(self, guest: Guest, **more: Any) -> Guest:
        """Have a guest connect until it has a session."""

        def up() -> bool:
            if guest.tcp is None:
                guest.connect(replace(guest.open, **more))
            return guest.established

        self.crowd.until(up, what=f"{guest.address} is established")
        return guest

    def until(self, probe: Callable[[], object], what: str = "it is so") -> None:
        """Have the guests do what they do until something is so."""
        self.crowd.until(probe, what=what)


@pytest.fixture
def lan() -> Iterator[Lan]:
    """Make a LAN of an engine and a crowd."""
    with Lan("rs", "crowd") as lan:
        yield lan


@pytest.fixture
def engine(lan: Lan) -> Iterator[EngineOnLan]:
    """Run the engine."""
    with EngineOnLan("native", lan, "rs") as engine:
        yield engine


@pytest.fixture
def party(lan: Lan) -> Iterator[Party]:
    """Seat guests."""
    with ExitStack() as stack:
        yield Party(lan, stack)


# -- the process


def test_the_process_has_all_descriptors_that_it_may_have(lan: Lan, engine: EngineOnLan) -> None:
    """One for each neighbour: what is given by default is enough for a thousand."""
    engine.apply(wanted(lan))
    assert descriptors(pid_of(engine)) == [str(resource.getrlimit(resource.RLIMIT_NOFILE)[1])] * 2


def test_after_a_crash_the_next_process_knows_who_was_there(lan: Lan, engine: EngineOnLan, party: Party) -> None:
    """It says that it was restarted, and says End-of-RIB only when all have told their routes (RFC 4724 4.1)."""
    engine.apply(wanted(lan, 1, 2, 3))
    one, two = (party.guest(number, restart=HELPED) for number in (1, 2))
    assert two.theirs is not None
    assert two.theirs.restart is not None
    assert not two.theirs.restart.restarting
    for guest in (one, two):
        guest.say_end()
        guest.excused = "the process is killed"
    party.until(lambda: two.ends == BOTH)
    eventually(lambda: len(engine._engine._files.established()) == 2, what="who is up is kept")  # type: ignore[union-attr]
    os.kill(pid_of(engine), signal.SIGKILL)
    party.until(lambda: not (one.established or two.established), "both have lost it")
    engine.apply(wanted(lan, 1, 2, 3))
    three, two = party.guest(3), party.come(two, restart=replace(HELPED, restarting=True))
    two.say_end()
    assert two.theirs is not None
    assert two.theirs.restart is not None
    assert two.theirs.restart.restarting
    three.announce(attributes(3), [P[3]])
    party.until(lambda: heard(two) == table(attributes(3), P[3]), "routes are told at once")
    assert two.ends == three.ends == set()
    one = party.come(one, restart=replace(HELPED, restarting=True))
    one.announce(attributes(1), [P[1]])
    one.say_end()
    party.until(lambda: one.ends == two.ends == three.ends == BOTH, "all have heard the end")
    assert heard(three) == table(attributes(1), P[1])


def test_its_death_takes_no_route_from_neighbours_that_help() -> None:
    """BIRD keeps what it was told while nobody is there, until the next process has said it all again."""
    members = ("bird", "other")
    with Lan("rs", *members) as lan:
        known = [each for member in members for each in neighbors(lan, member, only(member), restart_time=60)]
        routers = {member: client(lan, member, routes_of(lan, member, 0, 1), restart_time=60) for member in members}
        with running(lan, "native", speaker_of(lan, Mode.TRANSPARENT, known), routers) as world:
            expect_all(world, members)
            files = world.engine._engine._files  # type: ignore[union-attr]
            eventually(lambda: len(files.established()) == 4, what="who is up is kept")
            os.kill(pid_of(world.engine), signal.SIGKILL)
            eventually(lambda: not any(sessions(world, members)), what="all sessions are gone")
            expect_all(world, members)
            world.apply(world.speaker)
            expect_all(world, members)
            eventually(lambda: all(sessions(world, members)), what="all sessions are back")
            expect_all(world, members)


def sessions(world: World, members: tuple[str, ...]) -> list[str | None]:
    """Return what is new about each session in the eyes of the routers, None where there is none."""
    return [world.routers[member].incarnation(world.link(member, family)) for member in members for family in Family]


def expect_all(world: World, members: tuple[str, ...]) -> None:
    """Wait until each has what the other announces."""
    for member, other in (members, reversed(members)):
        for family in Family:
            world.expect(member, family, world.announced(other, family))


def test_its_death_is_nothing_to_another_engine(lan: Lan, engine: EngineOnLan, party: Party) -> None:
    """Two on one host, each with an address and a client of its own."""
    second = lan.ipv4("rs") + 100
    add_addresses(lan, "rs", [second])
    engine.apply(wanted(lan, 1, listen=(lan.ipv4("rs"),)))
    one = party.guest(1)
    with EngineOnLan("gobgp", lan, "rs") as other:
        other.apply(wanted(lan, 2, 3, listen=(second,), router_id=second))
        two, three = (party.guest(number, second) for number in (2, 3))
        two.announce(attributes(2), [P[2]])
        party.until(lambda: heard(three) == table(attributes(2), P[2]))
        one.excused = "the process is killed"
        os.kill(pid_of(engine), signal.SIGKILL)
        party.until(lambda: not one.established)
        two.announce(attributes(2), [P[4]])
        party.until(lambda: heard(three) == table(attributes(2), P[2], P[4]))
        assert two.established
        assert party.crowd.surprises == []


#: What BIRDs say that they are; one says nothing.
ROLES = {"one": "rs_client", "two": "", "three": "customer"}
ROLE_ASNS = {name: 64700 + number for number, name in enumerate(ROLES)}


def clients_with_roles(lan: Lan) -> Speaker:
    """Return a route server to all of them, which they call."""
    known = [
        Neighbor(name, asn, lan.ipv4(name), imports=ACCEPT_ALL, exports=SEND_ALL, client=True, passive=True)
        for name, asn in ROLE_ASNS.items()
    ]
    return speaker_of(lan, Mode.TRANSPARENT, known)


def birds_with_roles(lan: Lan) -> dict[str, Callable[[], Router]]:
    """Return what makes each BIRD, with a route of its own."""
    made: dict[str, Callable[[], Router]] = {}
    for number, (name, asn) in enumerate(ROLE_ASNS.items()):
        route = Route(P[number], Attributes(lan.ipv4(name), as_path=sequence(asn)))
        there = Link(lan.ipv4("rs"), SERVER, lan.ipv4(name), (V4,), role=ROLES[name])
        made[name] = partial(Bird, lan, name, asn, [there], [route])
    return made


def test_birds_with_roles_are_clients_or_not_let_in() -> None:
    """RFC 9234: who knows no roles is told that our routes are for customers only; a customer is no client."""
    with (
        Lan("rs", *ROLES) as lan,
        running(lan, "native", clients_with_roles(lan), birds_with_roles(lan), up=("one", "two")) as world,
    ):
        mark = UnknownAttribute(0xC0, 35, SERVER.to_bytes(4, "big"))
        world.expect("two", V4, {P[0]: replace(world.announced("one", V4)[P[0]], unknown=(mark,))})
        assert set(world.received("one", V4)) == {P[1]}
        third = world.routers["three"]
        eventually(lambda: "Role mismatch" in third.log(), what="it hears why", within=60)
        up = {session.name for session in world.engine.sessions() if session.state is SessionState.ESTABLISHED}
        assert up == {"one", "two"}


def test_it_listens_on_addresses_that_come_later(lan: Lan, engine: EngineOnLan, party: Party) -> None:
    """As an address of a VIP does, or of an interface; of both families."""
    later = (IPv4Address("192.0.2.77"), IPv6Address("2001:db8::77"))
    six = IPv6Address("2001:db8::99")
    add_addresses(lan, "crowd", [six])
    known = wanted(lan, 1, listen=(lan.ipv4("rs"), *later))
    neighbor = replace(known.neighbors[0], name="six", address=six)
    engine.apply(replace(known, neighbors=(*known.neighbors, neighbor)))
    add_addresses(lan, "rs", later)
    assert party.guest(1, later[0]).established
    guest = party.crowd.guest(six, later[1], said_by(1))
    assert party.come(guest).established
    assert {str(view.name) for view in engine.sessions() if view.uptime is not None} == {"g1", "six"}


def test_a_process_without_descriptors_serves_whom_it_has(lan: Lan, engine: EngineOnLan, party: Party) -> None:
    """Who comes then waits, and is served when there is one again."""
    engine.apply(wanted(lan, 1, 2, 3))
    one, two = party.guest(1), party.guest(2)
    pid = pid_of(engine)
    _, most = descriptors(pid)
    limit(pid, "0")
    waiting = party.crowd.guest(at(3), lan.ipv4("rs"), said_by(3))
    waiting.connect(waiting.open)
    log = Path(engine._directory.name) / "native.log"
    party.until(lambda: "cannot-accept" in log.read_text())
    for number in range(5):
        one.announce(attributes(1), P[number : number + 1])
        party.until(lambda number=number: len(heard(two)) == number + 1)  # type: ignore[misc]
    assert waiting.theirs is None
    limit(pid, most)
    party.until(lambda: len(heard(waiting)) == 5)
    assert pid_of(engine) == pid
    assert party.crowd.surprises == []


# -- the same core and loop, in a thread


@contextmanager
def inside(lan: Lan, speaker: Speaker) -> Iterator[tuple[Core, Loop]]:
    """Run core and loop here, in the namespace of the engine."""
    core = Core(speaker, 0.0)
    with ThreadPoolExecutor(1, initializer=enter, initargs=(lan.namespace("rs"),)) as pool:
        loop = Loop(core)
        try:
            for address in speaker.listen:
                pool.submit(loop.listen, address, 179).result()
            running = pool.submit(loop.run)
            try:
                yield core, loop
            finally:
                loop.stop()
                running.result(30)
        finally:
            loop.close()


def test_a_slow_neighbour_falls_behind_and_catches_up(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are served meanwhile; what waits for it is bounded, and in the end it knows what they know."""
    monkeypatch.setattr(module, "HIGH", 1 << 17)
    batch = P[:2000]
    with ExitStack() as stack:
        core, loop = stack.enter_context(inside(lan, wanted(lan, 1, 2, 3)))
        for listener in loop._listeners.values():
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 13)
        party = Party(lan, stack, room=1 << 13)
        source, slow, quick = (party.guest(number) for number in (1, 2, 3))
        slow.stop_reading()
        peer = core.server.peers[at(2)]
        med = 0
        while not core.server.audiences.is_behind(peer):
            med += 1
            assert med < 200
            source.announce(attributes(1, med=med), batch)
            party.until(lambda med=med: heard(quick) == table(attributes(1, med=med), *batch))  # type: ignore[misc]
        (wire,) = [wire for wire in loop._wires.values() if wire.address == at(2)]
        waiting = wire.size
        for _ in range(20):
            med += 1
            source.announce(attributes(1, med=med), batch)
            source.withdraw(P[2000:3000])
            source.announce(attributes(1), P[3000:])
            source.withdraw(batch[:1000])
            party.until(
                lambda med=med: (
                    heard(quick)  # type: ignore[misc]
                    == table(attributes(1, med=med), *batch[1000:]) | table(attributes(1), *P[3000:])
                )
            )
        assert wire.size <= waiting + 1000
        assert slow.table != quick.table
        slow.read_on()
        party.until(lambda: slow.table == quick.table and not core.server.audiences.is_behind(peer))
        assert slow.heard < quick.heard
        assert slow.ends == quick.ends == BOTH
        source.withdraw(P[3000:])
        party.until(lambda: len(slow.table) == len(quick.table) == 1000)
        assert party.crowd.surprises == []


def test_a_neighbour_whose_message_we_cannot_take_is_dropped_alone(
    lan: Lan, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever the mistake is: its routes go, the log says what happened, and it may come again."""
    take = Intake.take
    poison = encode(attributes(1, med=666), V4)

    def fail(self: Intake, messages: list[tuple[Any, ...]], now: float) -> None:
        if any(poison in message for message in messages):
            raise IndexError("what nobody thought of")
        take(self, messages, now)

    monkeypatch.setattr(Intake, "take", fail)
    with ExitStack() as stack:
        stack.enter_context(inside(lan, wanted(lan, 1, 2, 3)))
        party = Party(lan, stack)
        one, two, three = (party.guest(number) for number in (1, 2, 3))
        one.announce(attributes(1), P[:5])
        two.announce(attributes(2), P[5:6])
        party.until(lambda: len(heard(three)) == 6)
        one.excused = "poison"
        one.announce(attributes(1, med=666), P[:1])
        party.until(lambda: heard(three) == table(attributes(2), P[5]) and not one.established)
        assert "neighbor-dropped" in capfd.readouterr().err
        one = party.come(one)
        one.announce(attributes(1), P[:1])
        party.until(lambda: len(heard(two)) == 1 and len(heard(three)) == 2)
        assert two.established
        assert three.established
        assert party.crowd.surprises == []
