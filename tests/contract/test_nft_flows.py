"""Flow records as nfnetlink messages: what we write raw is what nft writes and shows, and we read it back."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from appliance.kernel import nft_flows
from appliance.kernel.netlink import NETLINK_NETFILTER, NLM_F_ACK, NLMSG_ERROR, Message, answer, messages, send, stream
from appliance.kernel.nft_flows import Stamp
from appliance.model.facts import FlowKey, Namespace
from tests.support.flow_body import flow_body

if TYPE_CHECKING:
    from tests.contract.worlds import World

RED = Namespace("red")
FLOWS = {
    "tcp": FlowKey(ip_address("10.0.0.1"), 40000, ip_address("192.0.2.1"), 80, 6, 1007),
    "icmp": FlowKey(ip_address("10.0.0.1"), 77, ip_address("192.0.2.1"), 0x0800, 1, 65535),
    "udp6": FlowKey(ip_address("fd00::1"), 1, ip_address("2001:db8::1"), 65535, 17),
    "echo6": FlowKey(ip_address("fd00::1"), 78, ip_address("2001:db8::1"), 0x8000, 58, 1),
}


@pytest.fixture
def link(world: World) -> Iterator[socket.socket]:
    """Give a socket where a table stands with engines 1 and 254, made by nft."""
    world.make(RED)
    world.run(RED, "nft", f"table inet edgeway {{ {flow_body({1: '80', 254: '81'})} }}")
    with world.namespaces.new_netlink_socket(NETLINK_NETFILTER, RED) as made:
        yield made


def commit(link: socket.socket, *given: Message, generation: int = 0) -> list[int]:
    """Send one transaction; return what the kernel said to each message, or to its beginning."""
    acked = [replace(one, flags=one.flags | NLM_F_ACK) for one in given]
    first = send(link, [nft_flows.begin(generation), *acked, nft_flows.end()])
    said: dict[int, int] = {}
    while len(said) < len(given) and 0 not in said:
        for kind, flags, sequence, payload in messages(link.recv(1 << 16)):
            if kind == NLMSG_ERROR:
                said[sequence - first] = answer(flags, payload).errno
    return [said[place] for place in sorted(said)]


def rules(link: socket.socket, engine: int) -> list[memoryview]:
    """Read the chain of an engine."""
    return list(stream(link, nft_flows.get_rules(engine)))


@pytest.mark.parametrize("engine", [1, 254])
@pytest.mark.parametrize("stamp", [Stamp(1, "0123abcd"), Stamp(4095, ""), Stamp(0x123, "x" * 100)])
def test_a_stamp_is_written_as_nft_writes_it(world: World, link: socket.socket, engine: int, stamp: Stamp) -> None:
    """The chain shows the same whoever wrote it, and is read back from both."""
    assert nft_flows.stamped(engine, rules(link, engine)) is None
    assert set(commit(link, *nft_flows.stamp(engine, stamp))) == {0}
    assert nft_flows.stamped(engine, rules(link, engine)) == stamp
    chain = ("chain", "inet", "edgeway", f"engine{engine}")
    ours = world.run(RED, "nft", "list", *chain)
    word = nft_flows.base(engine, stamp.generation)
    rule = f'ct mark set meta mark and 0x00000fff or 0x{word:08x} comment "{stamp.policy}"'
    world.run(
        RED,
        "nft",
        f"flush {' '.join(chain)}; add rule {' '.join(chain[1:])} {rule}; add rule {' '.join(chain[1:])} goto act",
    )
    assert world.run(RED, "nft", "list", *chain) == ours
    assert nft_flows.stamped(engine, rules(link, engine)) == stamp


@pytest.mark.parametrize(
    "other",
    [
        "goto act",
        'ct mark set meta mark and 0x00000fff or 0x00102000 comment "a"; add rule inet edgeway engine1 goto act',
        'ct mark set meta mark and 0x0000ffff or 0x00101000 comment "a"; add rule inet edgeway engine1 goto act',
        'ct mark set ct mark and 0x00000fff or 0x00101000 comment "a"; add rule inet edgeway engine1 goto act',
        'ct mark set meta mark and 0x00000fff or 0x00101000 comment "a"; add rule inet edgeway engine1 goto allow',
        'ct mark set meta mark and 0x00000fff or 0x00101000 comment "a"; add rule inet edgeway engine1 jump act',
        "ct mark set meta mark and 0x00000fff or 0x00101000; add rule inet edgeway engine1 goto act",
        "counter accept; add rule inet edgeway engine1 drop",
        'ct mark set meta mark and 0x00000fff or 0x00001000 comment "a"; add rule inet edgeway engine1 goto act',
    ],
)
def test_other_rules_are_no_stamp(world: World, link: socket.socket, other: str) -> None:
    """Another engine, mask, key or target, more or fewer rules, generation 0."""
    world.run(RED, "nft", f"add rule inet edgeway engine1 {other}")
    assert nft_flows.stamped(1, rules(link, 1)) is None


@pytest.mark.parametrize("name", FLOWS)
def test_a_row_is_written_and_read_and_deleted(link: socket.socket, name: str) -> None:
    """It is of its own map; adding it twice or deleting it twice is refused."""
    flow = FLOWS[name]
    assert commit(link, nft_flows.instruct(flow, 0x8000_0203)) == [0]
    for version in (4, 6):
        found = [row for one in stream(link, nft_flows.get_rows(version)) for row in nft_flows.rows(version, one)]
        assert found == ([(flow, 0x8000_0203)] if flow.source.version == version else [])
    assert commit(link, nft_flows.instruct(flow, 0x8000_0100)) == [errno.EEXIST]
    assert commit(link, nft_flows.uninstruct(flow)) == [0]
    assert commit(link, nft_flows.uninstruct(flow)) == [errno.ENOENT]


def test_many_rows_are_read_whole(link: socket.socket) -> None:
    """More than one datagram of them."""
    given = {FlowKey(ip_address("10.0.0.1"), port, ip_address("10.0.0.2"), 80, 6, 7) for port in range(2000)}
    link.setsockopt(socket.SOL_SOCKET, 32, 1 << 20)  # SO_SNDBUFFORCE: a transaction is one datagram
    assert not any(commit(link, *(nft_flows.instruct(flow, 0x8000_0100) for flow in given)))
    found = [row for one in stream(link, nft_flows.get_rows(4)) for row in nft_flows.rows(4, one)]
    assert dict(found) == dict.fromkeys(given, 0x8000_0100)
    assert len(found) == len(given)


def test_words_are_dispatched_as_nft_shows_it(world: World, link: socket.socket) -> None:
    """Six words of one generation and engine, each with what is done; and they can be taken away."""
    words = nft_flows.words_of(254, 4095)
    assert len(words) == 6
    assert commit(link, nft_flows.dispatch(words)) == [0]
    shown = world.run(RED, "nft", "list", "map", "inet", "edgeway", "dispatch")
    assert [f"0x{word:08x} : {verdict}" in shown for word, verdict in words.items()] == [True] * 6
    assert commit(link, nft_flows.undispatch(words)) == [0]
    assert "elements" not in world.run(RED, "nft", "list", "map", "inet", "edgeway", "dispatch")


def test_a_transaction_for_another_ruleset_is_refused(link: socket.socket) -> None:
    """The kernel says ERESTART, and nothing is changed."""
    row = nft_flows.instruct(FLOWS["tcp"], 0x8000_0100)
    assert commit(link, row, generation=0xFFFF) == [errno.ERESTART]
    assert not [one for one in stream(link, nft_flows.get_rows(4)) if list(nft_flows.rows(4, one))]
    assert commit(link, row) == [0]


def test_counters_are_read_by_name(world: World, link: socket.socket) -> None:
    """Packets and octets."""
    world.run(RED, "nft", "add counter inet edgeway full { packets 7 bytes 420 ; }")
    found = dict(map(nft_flows.counter, stream(link, nft_flows.get_counters())))
    assert found == {"judged": (0, 0), "rechecked": (0, 0), "full": (7, 420)}
