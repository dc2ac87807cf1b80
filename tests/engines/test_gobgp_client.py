"""The conversation with a real gobgpd that has no neighbours."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path

import pytest

from appliance.model.errors import EngineError
from routing.bgp.values import Announcement, Family, Mode, Neighbor, Speaker
from routing.engines.engine import SessionState
from routing.engines.gobgp_client import Client, Paths, PeersListed
from routing.engines.gobgp_codec import announcement_of
from routing.engines.gobgp_config import compile_speaker
from routing.engines.process import Process

pytestmark = pytest.mark.engine

FAR = ip_address("192.0.2.2")
#: Without an address it listens nowhere, and a passive neighbour is never called: no packet leaves.
SPEAKER = Speaker(
    "client",
    Mode.ROUTER,
    65000,
    IPv4Address("192.0.2.1"),
    (),
    neighbors=(
        Neighbor("far", 65001, FAR, passive=True),
        Neighbor("many", 65002, range=ip_network("198.51.100.0/24")),
    ),
)
CONFIG = compile_speaker(SPEAKER, {})


@pytest.fixture
async def process() -> AsyncIterator[Process]:
    """Give a gobgpd with an API and nothing else."""
    directory = Path(tempfile.mkdtemp(prefix="ewt-"))
    argv = ("gobgpd", "--api-hosts", f"unix://{directory}/gobgpd.sock", "--pprof-disable")
    process = Process("gobgpd", argv, {}, directory)
    await process.ensure()
    yield process
    await process.stop()
    shutil.rmtree(directory)


@pytest.fixture
async def client(process: Process) -> AsyncIterator[Client]:
    """Give a conversation with it."""
    client = Client(process.directory / "gobgpd.sock")
    async with asyncio.timeout(20):
        await client.ready()
    yield client
    await client.close()


async def test_a_speaker_starts_with_its_policies_and_neighbours(client: Client) -> None:
    """And knows groups apart from sessions."""
    await client.start(CONFIG)
    for peer in CONFIG.peers:
        await client.add(peer, restarting=False)
    assert [(peer.address, peer.asn) for peer in await client.peers()] == [(FAR, 65001)]
    assert await client.groups() == ["many"]
    await client.remove_peer(FAR)
    await client.remove_group("many", ())
    assert (await client.peers(), await client.groups()) == ([], [])


async def test_what_is_originated_is_in_the_table(client: Client) -> None:
    """More of it than one message holds."""
    await client.start(CONFIG)
    wanted = {Announcement(network) for network in ip_network("10.0.0.0/12").subnets(new_prefix=22)}
    await client.originate(wanted, ())
    assert {announcement_of(path) async for path in client.table(Family.IPV4)} == wanted
    gone = ip_network("10.0.4.0/22")
    await client.originate((), [gone])
    assert gone not in {path.prefix async for path in client.table(Family.IPV4)}
    (one,) = [path async for path in client.table(Family.IPV4, ip_network("10.0.8.0/22"))]
    assert (one.prefix, one.best, one.neighbor) == (ip_network("10.0.8.0/22"), True, None)


async def test_a_new_daemon_reads_back_what_an_earlier_one_announced(client: Client) -> None:
    """Otherwise it would announce everything again."""
    six = ip_address("2001:db8::1")
    wanted = {
        Announcement(ip_network("0.0.0.0/0"), med=0),
        Announcement(ip_network("10.0.0.0/8"), ip_address("192.0.2.1"), ((65000, 7), (65000, 8)), ((1, 2, 3),), 9),
        Announcement(ip_network("10.0.0.1/32"), six),
        Announcement(ip_network("::/0")),
        Announcement(ip_network("2001:db8::1/128"), six, large_communities=((4200000000, 0, 4294967295),)),
    }
    await client.start(CONFIG)
    await client.originate(wanted, ())
    assert {announcement_of(path) for family in Family for path in [p async for p in client.table(family)]} == wanted


async def test_a_watch_begins_with_peers_and_the_table(client: Client) -> None:
    """In parts, of which the last is marked."""
    await client.start(CONFIG)
    await client.add(CONFIG.peers[0], restarting=False)
    await client.originate([Announcement(n) for n in ip_network("10.0.0.0/12").subnets(new_prefix=22)], ())
    events = client.watch(best=True)
    peer, listed = [await anext(events) for _ in range(2)]
    assert (getattr(peer, "address", None), getattr(peer, "state", None)) == (FAR, SessionState.ACTIVE)
    assert listed == PeersListed()
    parts: list[Paths] = []
    while not parts or not parts[-1].whole:
        part = await anext(events)
        assert isinstance(part, Paths)
        parts.append(part)
    assert sum(len(part.paths) for part in parts) == 1024
    await client.originate((), [ip_network("10.0.4.0/22")])
    change = await anext(events)
    assert isinstance(change, Paths)
    assert [(str(path.prefix), path.attributes) for path in change.paths] == [("10.0.4.0/22", None)]
    await events.aclose()


async def test_what_gobgpd_refuses_is_an_engine_error_that_says_what(client: Client) -> None:
    """With the words of gobgpd."""
    await client.start(CONFIG)
    with pytest.raises(EngineError, match=r"DeletePeer: .*192\.0\.2\.2"):
        await client.remove_peer(FAR)


async def test_the_end_of_gobgpd_ends_a_watch(client: Client, process: Process) -> None:
    """By an engine error, not by silence."""
    await client.start(CONFIG)
    events = client.watch(best=False)
    assert await anext(events) == PeersListed()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(EngineError, match="WatchEvent"):
        await anext(events)


async def test_closing_the_conversation_ends_a_watch(client: Client) -> None:
    """By an engine error: whoever waits was not cancelled."""
    await client.start(CONFIG)
    events = client.watch(best=False)
    assert await anext(events) == PeersListed()
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(EngineError):
        await waiting
