"""Backends are checked by connecting; only a change of the verdict is told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from ipaddress import IPv4Address

import pytest

from appliance.control.health import Checker, check
from appliance.control.tasks import Tasks
from appliance.kernel.fakes.tables import FakeNamespaces
from appliance.kernel.fakes.world import FakeWorld
from appliance.kernel.namespaces import Namespaces
from appliance.model.facts import Namespace
from appliance.model.intent import Health
from services.health import NodeTarget, Target
from tests.support.waiting import eventually_async

QUICK = Health(interval=0.1, timeout=0.1, rise=2, fall=2)
SLOW = Health(interval=60, timeout=0.1, rise=1, fall=1)


def target(guest: str = "r1", port: int = 80, address: str = "127.0.0.1") -> Target:
    """Return a target of VPC red."""
    return Target("red", guest, IPv4Address(address), port)


@pytest.fixture
def namespaces() -> Namespaces:
    """Give a world in which VPC red is this machine's loopback."""
    world = FakeWorld()
    world.namespaces.add(Namespace("vpc-red"))
    return FakeNamespaces(world)


async def test_a_backend_that_accepts_is_good_and_one_that_refuses_is_not(namespaces: Namespaces) -> None:
    """A TCP connection is the whole check."""
    accepted = asyncio.Event()

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await check(namespaces, target(port=port), 5)
    await asyncio.wait_for(accepted.wait(), 5)
    server.close()
    await server.wait_closed()
    assert not await check(namespaces, target(port=port), 5)


async def test_a_check_leaves_no_connection(namespaces: Namespaces) -> None:
    """Neither side waits for late packets of it, nor does conntrack."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert await check(namespaces, target(port=listener.getsockname()[1]), 5)
        connection, _ = listener.accept()
        with connection, pytest.raises(ConnectionResetError):
            connection.recv(1)


async def test_a_backend_that_says_nothing_has_failed_when_patience_ends(namespaces: Namespaces) -> None:
    """A full accept queue drops what comes; the check must end all the same."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        assert not await check(namespaces, target(port=port), 0.1)
        for filler in fillers:
            filler.close()


async def test_a_vpc_that_is_not_there_yet_has_no_good_backend() -> None:
    """Its namespace may have been removed by somebody else."""
    assert not await check(FakeNamespaces(FakeWorld()), target(), 0.1)


class Probes:
    """Answers checks as the test wants, and counts them."""

    def __init__(self) -> None:
        self.dead: set[Target] = set()
        self.made: dict[Target, int] = {}
        self.told = 0

    async def __call__(self, _: Namespaces, target: Target, __: float) -> bool:
        """Make one check."""
        self.made[target] = self.made.get(target, 0) + 1
        return target not in self.dead

    def changed(self) -> None:
        """Be told."""
        self.told += 1


@pytest.fixture
def probes() -> Probes:
    """Give probes that find every backend well."""
    return Probes()


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    """Give tasks that end with the test."""
    tasks = Tasks()
    yield tasks
    await tasks.stop()


@pytest.fixture
def checker(probes: Probes, namespaces: Namespaces, tasks: Tasks) -> Checker:
    """Give a checker with these probes."""
    return Checker(namespaces, tasks, probes.changed, probes)


async def test_a_backend_is_down_after_fall_failures_and_up_after_rise_good_checks(
    checker: Checker, probes: Probes
) -> None:
    """Each change is told once."""
    await checker.watch({target(): QUICK})
    assert checker.down == frozenset()
    probes.dead = {target()}
    await eventually_async(lambda: checker.down == {("red", "r1", 80)})
    assert probes.told == 1
    probes.dead = set()
    await eventually_async(lambda: checker.down == frozenset())
    assert probes.told == 2


async def test_a_target_that_stays_keeps_its_verdict_and_is_not_checked_anew(checker: Checker, probes: Probes) -> None:
    """A reload must not make a dead backend look healthy, nor check all at once."""
    probes.dead = {target()}
    await checker.watch({target(): SLOW})
    await eventually_async(lambda: checker.down)
    await checker.watch({target(): SLOW, target("r2"): SLOW})
    await eventually_async(lambda: probes.made.get(target("r2")))
    assert checker.down == {("red", "r1", 80)}
    assert probes.made[target()] == 1


async def test_a_target_that_goes_is_forgotten(checker: Checker, probes: Probes, tasks: Tasks) -> None:
    """It starts as healthy if it comes again."""
    probes.dead = {target()}
    await checker.watch({target(): QUICK})
    await eventually_async(lambda: checker.down)
    await checker.watch({})
    assert checker.down == frozenset()
    assert not tasks.names()
    await checker.watch({target(): QUICK})
    assert checker.down == frozenset()


async def test_another_interval_takes_effect_at_once(checker: Checker, probes: Probes) -> None:
    """The old pause may be a minute."""
    await checker.watch({target(): SLOW})
    await eventually_async(lambda: probes.made.get(target()) == 1)
    await checker.watch({target(): QUICK})
    await eventually_async(lambda: probes.made[target()] > 3)


async def test_nothing_to_check_leaves_the_tasks_of_others_alone(checker: Checker, tasks: Tasks) -> None:
    """They share one set of tasks."""
    tasks.start("other", lambda: asyncio.sleep(3600))
    await checker.watch({})
    await checker.watch({})
    assert tasks.names() == {"other"}


def service_node(name: str = "ids", address: str = "127.0.0.1") -> NodeTarget:
    """Return a service node of VPC red."""
    return NodeTarget("red", name, IPv4Address(address), 0, "lo")


@pytest.mark.kernel
async def test_a_check_that_ends_when_it_is_stopped_is_the_last_one(
    namespaces: Namespaces, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that stops must not wait for ever."""
    begun, end = asyncio.Event(), asyncio.Event()

    async def connect(*_: object) -> None:
        begun.set()
        await end.wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", connect)
    await Checker(namespaces, tasks, lambda: None).watch({target(): SLOW.model_copy(update={"timeout": 60.0})})
    await begun.wait()
    end.set()  # the check goes on before what follows
    async with asyncio.timeout(10):
        await asyncio.create_task(tasks.stop())
    assert tasks.names() == frozenset()


async def test_a_service_node_that_answers_an_echo_is_good(namespaces: Namespaces) -> None:
    """It need not accept connections."""
    assert await check(namespaces, service_node(), 5)
    assert not await check(FakeNamespaces(FakeWorld()), service_node(), 0.1)


async def test_a_service_node_that_is_down_is_told_apart_from_backends(checker: Checker, probes: Probes) -> None:
    """Also from a guest of the same name."""
    await checker.watch({target("ids"): QUICK, service_node(): QUICK})
    probes.dead = {service_node()}
    await eventually_async(lambda: checker.nodes_down == {("red", "ids")})
    assert checker.down == frozenset()
    probes.dead = {target("ids")}
    await eventually_async(lambda: checker.down == {("red", "ids", 80)} and not checker.nodes_down)
