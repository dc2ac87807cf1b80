"""Our nft table: what is written is what is read, in one transaction, and counters live on when only sets change."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import permutations
from typing import TYPE_CHECKING, cast

import pytest

from appliance.kernel.nft import NftPort
from appliance.model.facts import HOST, Namespace, NftSet, NftTable
from appliance.state.diff import Change, Plan, diff
from tests.contract.boxes import prepare, reach, watching

if TYPE_CHECKING:
    from appliance.kernel.fakes.nft import FakeNft
    from tests.contract.boxes import Box
    from tests.contract.worlds import World

RED = Namespace("red")
BODY = """
    set clients { type ipv4_addr; flags interval; }
    set ports { type inet_service; }
    map services { type ipv4_addr . inet_service : verdict; }
    chain web { counter accept; }
    chain input {
        type filter hook input priority 0; policy accept;
        ip saddr @clients counter drop
        ip daddr . tcp dport vmap @services
    }
"""
OTHER = """
    set clients { type ipv4_addr; flags interval; }
    map marks { type inet_service : mark; }
    chain input { type filter hook input priority 0; policy accept; ip saddr @clients counter accept; }
"""


def elements(name: str, *texts: str, ns: Namespace = RED) -> NftSet:
    """Write a set short."""
    return NftSet(ns, name, frozenset(texts))


def facts(*given: NftTable | NftSet) -> frozenset[NftTable | NftSet]:
    """Write desired facts short."""
    return frozenset(given)


def nft(box: Box) -> NftPort | FakeNft:
    """Make a new port, as a restarted daemon would."""
    return cast("NftPort | FakeNft", box.port("nft"))


STATES: dict[str, frozenset[NftTable | NftSet]] = {
    "nothing": frozenset(),
    "empty sets": frozenset({NftTable(RED, BODY), elements("clients"), elements("services")}),
    "full": frozenset(
        {
            NftTable(RED, BODY),
            elements("clients", "10.0.0.0/24", "192.0.2.1", "198.51.100.1-198.51.100.9"),
            elements("ports", "80", "443"),
            elements("services", "192.0.2.1 . 80 : goto web", "192.0.2.1 . 81 : drop"),
        }
    ),
    "overlapping": frozenset(
        {
            NftTable(RED, BODY),
            elements("clients", "10.0.0.0/25", "10.0.0.128/26", "192.0.2.0/24"),
            elements("services", "192.0.2.1 . 80 : drop", "192.0.2.2 . 80 : jump web"),
        }
    ),
    "other body": frozenset(
        {NftTable(RED, OTHER), elements("clients", "10.0.0.0/24"), elements("marks", "80 : 0x00000010")}
    ),
    "two namespaces": frozenset(
        {
            NftTable(RED, OTHER),
            NftTable(HOST, BODY),
            elements("ports", "80", ns=HOST),
            elements("marks", "81 : 0x00000001"),
        }
    ),
}


@pytest.mark.parametrize("path", list(permutations(STATES, 3)), ids=" -> ".join)
def test_the_kernel_depends_on_the_state_and_not_on_the_path(box: Box, path: tuple[str, ...]) -> None:
    """After each state the kernel holds it; so says a port that starts anew and is told what is desired."""
    prepare(box, RED)
    port = nft(box)
    for name in path:
        desired = STATES[name]
        assert reach(port, desired) == ()
        assert port.read() == desired
        assert not diff(port.read(), desired)
        again = nft(box)
        again.attend(desired)
        assert again.read() == desired
        again.close()
    port.close()


CANONICAL = {
    "ipv4_addr": ("10.0.0.1", "192.0.2.255"),
    "ipv4_addr; flags interval": ("0.0.0.0/1", "192.0.2.1", "192.0.2.4/30", "198.51.100.1-198.51.100.9"),
    "ipv6_addr": ("::1", "2001:db8::1", "fe80::1"),
    "ipv6_addr; flags interval": ("fd00::/8", "2001:db8::1", "fe80::1-fe80::ff"),
    "inet_service": ("80", "443", "65535"),
    "inet_service; flags interval": ("22", "80-90", "1024-65535"),
    "inet_proto": ("tcp", "udp", "icmp", "ipv6-icmp", "99"),
    "ifname": ('"eth0"', '"up0.100"', '"ew-comp0"'),
    "ether_addr": ("02:00:00:00:00:01",),
    "mark": ("0x00000001", "0xffff0000"),
    "inet_proto . inet_service": ("tcp . 80", "udp . 53"),
    "ifname . ipv4_addr . inet_service": ('"eth0" . 10.0.0.1 . 80',),
    "ipv4_addr . inet_service; flags interval": (
        "10.0.0.0/8 . 80-90",
        "192.0.2.1 . 443",
        "198.51.100.1-198.51.100.3 . 1-2",
    ),
    "ipv6_addr . inet_proto . inet_service": ("2001:db8::1 . tcp . 80",),
    "inet_service : verdict": ("80 : accept", "81 : drop", "82 : goto c", "83 : jump c", "84 : return"),
    "ipv4_addr : ipv4_addr": ("10.0.0.1 : 10.1.0.1",),
    "ipv6_addr : ipv6_addr": ("2001:db8::1 : fd00::1",),
    "inet_service : mark": ("80 : 0x0000000a",),
    "ipv4_addr . inet_service : ipv4_addr . inet_service": ("192.0.2.1 . 80 : 10.0.0.1 . 8080",),
    "ipv4_addr : verdict; flags interval": ("10.0.0.0/24 : goto c", "10.0.1.0/24 : drop"),
    "mark : ipv4_addr": ("0x00000007 : 10.0.0.1",),
}


@pytest.mark.parametrize("kind", CANONICAL)
def test_what_is_written_is_what_is_read(world: World, kind: str) -> None:
    """Every kind of element that we use, in the words of nft; and each can be taken out again."""
    world.make(RED)
    what = "map" if " : " in kind else "set"
    table = NftTable(RED, f"chain c {{ }}\n{what} s {{ type {kind}; }}")
    written = elements("s", *CANONICAL[kind])
    port = NftPort(world.namespaces)
    assert reach(port, facts(table, written)) == ()
    fresh = NftPort(world.namespaces)
    fresh.attend({table, written})
    assert fresh.read() == {table, written}
    for element in sorted(written.elements):
        assert reach(port, facts(table, replace(written, elements=written.elements - {element}))) == ()
        assert reach(port, facts(table, written)) == ()
    fresh.attend({table, written})
    assert fresh.read() == {table, written}
    port.close()
    fresh.close()


def test_rules_keep_their_counters_when_only_sets_change(world: World) -> None:
    """A counter that has counted goes on counting."""
    world.make(RED)
    port = NftPort(world.namespaces)
    body = """
        set clients { type ipv4_addr; }
        chain out { type filter hook output priority 0; ip daddr 127.0.0.1 counter; ip daddr @clients drop; }
    """
    reach(port, {NftTable(RED, body)})
    world.run(RED, "ping", "-c1", "-W1", "127.0.0.1")
    before = world.run(RED, "nft", "list", "chain", "inet", "edgeway", "out")
    assert "packets 0" not in before
    assert reach(port, facts(NftTable(RED, body), elements("clients", "192.0.2.1", "192.0.2.2"))) == ()
    assert reach(port, facts(NftTable(RED, body), elements("clients", "192.0.2.2"))) == ()
    assert world.run(RED, "nft", "list", "chain", "inet", "edgeway", "out") == before
    port.close()


def test_tables_of_others_are_left_alone(world: World) -> None:
    """They are neither read nor removed; a set of ours can have the name of theirs."""
    world.make(RED)
    world.run(RED, "nft", "add table inet other { set clients { type ipv4_addr; elements = { 10.9.9.9 } ; } ; }")
    port = NftPort(world.namespaces)
    reach(port, STATES["full"])
    reach(port, ())
    assert port.read() == frozenset()
    assert "10.9.9.9" in world.run(RED, "nft", "list", "ruleset")
    assert "edgeway" not in world.run(RED, "nft", "list", "ruleset")
    port.close()


@pytest.mark.parametrize(
    "command",
    [
        "flush chain inet edgeway input",
        "add rule inet edgeway web drop",
        "delete element inet edgeway ports { 80 }",
        "add element inet edgeway clients { 203.0.113.1 }",
        "delete table inet edgeway",
        "flush ruleset",
    ],
)
def test_what_another_changed_in_our_table_is_put_right(world: World, command: str) -> None:
    """It is seen by the next read, and one apply leads back."""
    world.make(RED)
    port = NftPort(world.namespaces)
    reach(port, STATES["full"])
    world.run(RED, "nft", command)
    assert port.read() != STATES["full"]
    assert reach(port, STATES["full"]) == ()
    assert port.read() == STATES["full"]
    port.close()


def test_a_table_of_an_earlier_process_is_replaced_only_if_it_differs(world: World) -> None:
    """Told the same body, a new process leaves it alone; told another, it sees one that differs."""
    world.make(RED)
    port = NftPort(world.namespaces)
    reach(port, STATES["full"])
    right, wrong = NftPort(world.namespaces), NftPort(world.namespaces)
    right.attend(STATES["full"])
    wrong.attend(STATES["other body"])
    assert not diff(right.read(), STATES["full"])
    assert [
        change.operation
        for change in diff(wrong.read(), STATES["other body"]).changes
        if isinstance(change.fact, NftTable)
    ] == ["update"]
    for one in (port, right, wrong):
        one.close()


def test_a_transaction_that_fails_changes_nothing_in_its_namespace(box: Box) -> None:
    """And the other namespaces are done; every fact that waits is named."""
    prepare(box, RED)
    port = box.port("nft")
    reach(port, STATES["full"])
    bad = {
        *STATES["full"] - {elements("ports", "80", "443")},
        elements("ports", "81"),
        elements("nonesuch", "10.0.0.1"),
    }
    good = {NftTable(HOST, BODY), elements("ports", "80", ns=HOST)}
    failures = reach(port, bad | good)
    assert {failure.fact for failure in failures} == {elements("ports", "81"), elements("nonesuch", "10.0.0.1")}
    assert port.read() == STATES["full"] | good
    port.close()


def test_the_failure_names_the_set_and_keeps_the_words_of_nft(world: World) -> None:
    """The first one is the guilty one."""
    world.make(RED)
    port = NftPort(world.namespaces)
    reach(port, STATES["full"])
    guilty = elements("nonesuch", "10.0.0.1")
    first, *others = reach(port, {*STATES["overlapping"], guilty})
    assert first.fact == guilty
    assert "No such file or directory" in str(first.error)
    assert "set nonesuch" in str(first.error)
    assert others
    assert all("waits for set nonesuch" in str(failure.error) for failure in others)
    (failure,) = reach(port, {NftTable(RED, "chain c { nonsense }")})[:1]
    assert isinstance(failure.fact, NftTable)
    assert "syntax error" in str(failure.error)
    port.close()


def test_a_missing_namespace_is_a_failure_that_may_pass(box: Box) -> None:
    """Deleting there succeeds."""
    lost = NftTable(Namespace("none"), BODY)
    (failure,) = reach(box.port("nft"), {lost})
    assert failure.error.retry
    assert box.port("nft").apply(Plan((Change("delete", lost, None),))) == ()


def test_sets_that_the_packet_path_fills_are_no_facts(world: World) -> None:
    """They would never be equal to anything desired."""
    world.make(RED)
    port = NftPort(world.namespaces)
    table = NftTable(
        RED, "set seen { type ipv4_addr; flags dynamic,timeout; timeout 1m; }\nset plain { type ipv4_addr; }"
    )
    reach(port, {table})
    world.run(RED, "nft", "add element inet edgeway seen { 10.0.0.1 }")
    assert port.read() == {table}
    port.close()


async def test_a_change_by_another_is_told_and_ours_is_not(world: World) -> None:
    """The transaction carries the process that made it."""
    world.make(RED)
    port = NftPort(world.namespaces)
    async with asyncio.timeout(5), watching(port) as reasons:
        reach(port, STATES["two namespaces"])
        world.run(RED, "nft", "add table inet other")
        assert await anext(reasons) == "nft red"
    port.close()


def test_deleting_a_namespace_takes_its_table(box: Box) -> None:
    """And a new one of that name starts empty."""
    prepare(box, RED)
    port = box.port("nft")
    reach(port, STATES["full"])
    prepare(box)
    prepare(box, RED)
    assert port.read() == frozenset()
    port.close()


def test_a_device_is_looked_up_in_the_namespace_of_the_table(world: World) -> None:
    """`iif` takes an index, found where the caller is."""
    world.make(RED)
    world.run(RED, "ip", "link", "add", "only-red", "type", "bridge")
    port = NftPort(world.namespaces)
    table = NftTable(RED, 'chain c { type filter hook input priority 0; iif "only-red" accept; }')
    assert reach(port, {table}) == ()
    assert 'iif "only-red"' in world.run(RED, "nft", "list", "ruleset")
    port.close()
