"""Our nft table: what is written is what is read, in one transaction, and counters live on when only sets change."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_address
from itertools import permutations
from typing import TYPE_CHECKING, cast

import pytest

from appliance.kernel.nft import NftPort
from appliance.model.facts import HOST, Engine, FlowKey, Instruction, Namespace, NftSet, NftTable
from appliance.model.marks import Action
from appliance.state.diff import Change, Plan, diff
from tests.contract.boxes import prepare, reach, watching
from tests.support.flow_body import flow_body

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


Fact = NftTable | NftSet | Engine | Instruction
REGIONS = """
map regions { type ipv4_addr . inet_service : mark; flags interval; }
map verdicts { type mark : mark; }
"""
JUDGING = flow_body({1: "5000-5999", 2: "6000-6999"})
FLOW4 = FlowKey(ip_address("10.0.0.1"), 40000, ip_address("192.0.2.1"), 80, 6, 1007)
FLOW6 = FlowKey(ip_address("fd00::1"), 77, ip_address("2001:db8::1"), 0x8000, 58, 1)


def elements(name: str, *texts: str, ns: Namespace = RED) -> NftSet:
    """Write a set short."""
    return NftSet(ns, name, frozenset(texts))


def facts(*given: Fact) -> frozenset[Fact]:
    """Write desired facts short."""
    return frozenset(given)


def nft(box: Box) -> NftPort | FakeNft:
    """Make a new port, as a restarted daemon would."""
    return cast("NftPort | FakeNft", box.port("nft"))


STATES: dict[str, frozenset[Fact]] = {
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
    "judging": frozenset(
        {
            NftTable(RED, JUDGING),
            elements("denied", "80"),
            Engine(RED, 1, "0123"),
            Engine(RED, 2, "4567"),
            Instruction(RED, FLOW4, Action.DENY),
            Instruction(RED, FLOW6, Action.REDIRECT, 255),
        }
    ),
    "judging by regions": frozenset(
        {
            NftTable(RED, JUDGING + REGIONS),
            elements("denied", "80"),
            elements("regions", "10.0.0.0/8 . 80-90 : 0x00000001", "0.0.0.0/0 . 443 : 0x00000002"),
            elements("verdicts", "0x00000001 : 0x80000100"),
            Engine(RED, 2, "4567"),
        }
    ),
    "judging by other regions": frozenset(
        {
            NftTable(RED, JUDGING + REGIONS),
            elements("regions", "10.0.0.0/8 . 80-90 : 0x00000003"),
            elements("verdicts", "0x00000003 : 0x80000200"),
            Engine(RED, 1, "89ab"),
            Engine(RED, 2, "4568"),
        }
    ),
    "judging otherwise": frozenset(
        {
            NftTable(RED, JUDGING),
            elements("denied", "81"),
            Engine(RED, 1, "89ab"),
            Instruction(RED, FLOW4, Action.ALLOW),
        }
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


JUDGED = ("judging", "judging otherwise")
#: All ways over the states without flow records, and ways over those with them.
PATHS = [
    *permutations([name for name in STATES if name not in JUDGED], 3),
    *(path for path in permutations(("nothing", "full", *JUDGED), 3) if {*path} & {*JUDGED}),
]


@pytest.mark.parametrize("path", PATHS, ids=" -> ".join)
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


def test_an_engine_is_bumped_when_its_policy_changes_and_never_else(box: Box) -> None:
    """Also not by a process that starts anew, nor by sets; a body that changes bumps all."""
    prepare(box, RED)
    port = nft(box)
    assert reach(port, STATES["judging"]) == ()
    first = dict(port.generations(RED))
    assert port.policies(RED) == {1: "0123", 2: "4567"}
    assert set(first) == {1, 2}
    for again in (port, nft(box), nft(box)):
        again.attend(STATES["judging"])
        assert reach(again, STATES["judging"]) == ()
        assert again.generations(RED) == first
    other = STATES["judging"] - {Engine(RED, 1, "0123"), elements("denied", "80")}
    assert reach(port, other | facts(Engine(RED, 1, "new"), elements("denied", "82"))) == ()
    assert port.generations(RED) == {1: first[1] % 4095 + 1, 2: first[2]}
    assert reach(port, STATES["judging"]) == ()
    assert port.generations(RED) == {1: (first[1] + 1) % 4095 + 1, 2: first[2]}
    anew = STATES["judging"] - {NftTable(RED, JUDGING)} | {NftTable(RED, JUDGING + "# other")}
    assert reach(port, anew) == ()
    assert port.generations(RED) == {1: (first[1] + 2) % 4095 + 1, 2: first[2] % 4095 + 1}
    port.close()


def test_an_engine_that_comes_back_goes_on_from_its_generation(box: Box) -> None:
    """Records of its earlier life are about; while it is gone it is not told."""
    prepare(box, RED)
    port = nft(box)
    reach(port, STATES["judging"])
    first = port.generations(RED)[2]
    reach(port, STATES["judging otherwise"])
    assert set(port.generations(RED)) == {1}
    again = nft(box)
    assert reach(again, STATES["judging"]) == ()
    assert again.generations(RED)[2] == first % 4095 + 1
    port.close()
    again.close()


@pytest.mark.parametrize(
    "lost",
    [Engine(RED, 3, "0123"), Instruction(RED, FLOW4, Action.DENY), Instruction(RED, FLOW6, Action.DENY)],
    ids=lambda fact: f"{type(fact).__name__}",
)
def test_what_the_table_has_no_place_for_is_a_failure(box: Box, lost: Fact) -> None:
    """A chain or map that its body does not declare; the rest of the transaction waits, too."""
    prepare(box, RED)
    port = nft(box)
    body = NftTable(RED, JUDGING.replace("instructions4", "other4").replace("instructions6", "other6"))
    assert reach(port, facts(body, Engine(RED, 1, "0123"))) == ()
    assert lost in {failure.fact for failure in reach(port, facts(body, Engine(RED, 1, "0123"), lost))}
    assert port.read() == {body, Engine(RED, 1, "0123")}
    assert port.apply(Plan((Change("delete", lost, None),))) == ()
    port.close()


@pytest.mark.parametrize(
    "command",
    [
        "flush chain inet edgeway engine1",
        "add rule inet edgeway engine1 drop",
        "flush map inet edgeway dispatch",
        "add element inet edgeway dispatch { 0x5 : accept }",
        "flush map inet edgeway instructions4",
        "flush map inet edgeway instructions6",
    ],
)
def test_what_another_changed_of_flow_records_is_put_right(world: World, command: str) -> None:
    """By one apply, without the table being made anew."""
    world.make(RED)
    port = NftPort(world.namespaces)
    reach(port, STATES["judging"])
    world.run(RED, "nft", command)
    plan = diff(port.read(), STATES["judging"])
    assert plan
    assert not any(isinstance(change.fact, NftTable) for change in plan.changes)
    assert port.apply(plan) == ()
    assert port.read() == STATES["judging"]
    fresh = NftPort(world.namespaces)
    fresh.attend(STATES["judging"])
    assert fresh.read() == STATES["judging"]
    assert world.run(RED, "nft", "list", "map", "inet", "edgeway", "dispatch").count("0x") == 12
    port.close()
    fresh.close()


def test_a_ruleset_that_changed_meanwhile_is_looked_at_again(world: World) -> None:
    """The kernel refuses what was made for another; the difference is carried out all the same."""
    world.make(RED)
    port = NftPort(world.namespaces)
    reach(port, STATES["judging"])
    world.run(RED, "nft", "add table inet other")
    assert port.apply(Plan((Change("delete", Instruction(RED, FLOW4, Action.DENY), None),))) == ()
    assert port.read() == STATES["judging"] - {Instruction(RED, FLOW4, Action.DENY)}
    port.close()


def test_nothing_is_listed_after_our_own_changes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither after instructions nor after sets with a bump: what was written is known."""
    world.make(RED)
    port = NftPort(world.namespaces)
    reach(port, STATES["judging"])
    listed: list[str] = []
    run = NftPort._run

    def spy(self: NftPort, ns: Namespace, text: str) -> str:
        listed.append(text.split(maxsplit=1)[0])
        return run(self, ns, text)

    monkeypatch.setattr(NftPort, "_run", spy)
    assert reach(port, STATES["judging"] - {Instruction(RED, FLOW4, Action.DENY)}) == ()
    assert listed == []
    assert reach(port, STATES["judging otherwise"]) == ()
    assert port.read() == STATES["judging otherwise"]
    assert listed == ["delete"]
    port.close()


def test_counters_are_told_by_name(box: Box) -> None:
    """Those that the body declares."""
    prepare(box, RED)
    port = nft(box)
    reach(port, STATES["judging"])
    assert port.counters(RED) == {"judged": (0, 0), "rechecked": (0, 0)}
    assert port.counters(HOST) == {}
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


@pytest.mark.parametrize("wrong", ["ip saddr @missing drop", "jump nowhere", "tcp dport 80 goto input"])
def test_rules_that_are_refused_leave_the_table_as_it_was(world: World, wrong: str) -> None:
    """What was made ready for them goes again: sets, chains, and no hook came."""
    world.make(RED)
    port = NftPort(world.namespaces)
    reach(port, STATES["full"])
    before = world.run(RED, "nft", "-s", "list ruleset")
    more = f"""
    set fresh {{ type ipv4_addr; flags interval; }}
    chain leaf {{ ip saddr @fresh drop; }}
    chain late {{ type filter hook output priority 0; {wrong}; }}
    """
    desired = {NftTable(RED, BODY + more), elements("fresh", "10.0.0.0/8"), *STATES["full"]} - {NftTable(RED, BODY)}
    assert {type(failure.fact) for failure in reach(port, desired)} >= {NftTable}
    assert world.run(RED, "nft", "-s", "list ruleset") == before
    assert port.read() == STATES["full"]
    port.close()


def test_other_rules_leave_nothing_of_the_old_ones_and_count_on(world: World) -> None:
    """Sets, chains and counters without a place go; those with one stay what they are."""
    world.make(RED)
    port = NftPort(world.namespaces)
    body = "counter seen { }\nset old { type mark; }\nchain leaf { accept; }\nchain hooked { HOOK meta mark @old goto leaf; }"
    hook = "type filter hook output priority 0; policy accept;\n counter name seen;"
    assert reach(port, facts(NftTable(RED, body.replace("HOOK", hook)), elements("old", "0x00000001"))) == ()
    world.run(RED, "ip", "link", "set", "lo", "up")
    world.run(RED, "ping", "-c", "3", "-i", "0.01", "127.0.0.1")
    counted = port.counters(RED)["seen"]
    other = f"counter seen {{ }}\nmap new {{ type mark : verdict; }}\nchain hooked {{ {hook} meta mark vmap @new; }}"
    assert reach(port, facts(NftTable(RED, other), elements("new", "0x00000001 : drop"))) == ()
    assert counted[0] >= 3
    assert port.counters(RED)["seen"] == counted
    listed = world.run(RED, "nft", "-s", "list ruleset")
    assert "old" not in listed
    assert "leaf" not in listed
    assert "elements = { 0x00000001 : drop }" in listed
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
