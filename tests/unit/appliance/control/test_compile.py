"""The compile: a pure function of the intent and what is known, the same whenever and wherever it runs."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from appliance.control.compile import ORDER, Desired, Known, compile_intent, surroundings
from appliance.control.reconcile import SUBSYSTEMS
from appliance.model.describe import describe
from appliance.model.facts import HOST, Fact, Link, LinkAddress, Neighbour, Netns, NftSet, NftTable, Route, Sysctl
from appliance.model.intent import Intent
from appliance.model.load import parse
from services.feature import Runtime
from tests.support.intents import LAB, NAMED, ROOT, changed, intent, lab, one_vpc, random_tree, to_yaml, two_vpcs
from tests.support.laws import clashes, every_block

GOLDEN = Path(__file__).parent / "golden"
VIP = IPv4Address("203.0.113.80")
SEEDS = range(20)


def made(seed: int) -> Intent:
    """Return a random intent."""
    return intent(random_tree(random.Random(seed)))


def written(desired: Desired) -> str:
    """Write facts and announcements as an engineer reads them."""
    lines = []
    for kind in ORDER:
        for fact in sorted(desired.of(kind), key=describe):
            lines.append(describe(fact))
            if isinstance(fact, NftTable):
                lines += [f"    {line}" for line in fact.body.splitlines()]
    lines += sorted(f"announce {a.prefix} {a.kind} of {a.owner}" for a in desired.advertisements)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", ["h1", "gw1"])
def test_the_lab_compiles_to_the_facts_that_were_read_by_a_person(name: str) -> None:
    """Look at the difference, then write it anew with EDGEWAY_REWRITE=1."""
    known = Known(Runtime({"red": (0, 1)}), {VIP: (11, 12)})
    text, file = written(compile_intent(lab(), name, known)), GOLDEN / f"{name}.txt"
    if os.environ.get("EDGEWAY_REWRITE") == "1":
        file.write_text(text)
    assert text == file.read_text()


@pytest.mark.parametrize("seed", SEEDS)
def test_no_two_facts_of_a_node_claim_one_key(seed: int) -> None:
    """The kernel has one object a key: the later would win, and each run would find a difference."""
    zone = made(seed)
    members = {vip.address: (3, 9) for vpc in zone.vpcs.values() for vip in vpc.vips.values()}
    for name in zone.nodes:
        known = Known(every_block(zone, name).runtime, members)
        assert clashes(compile_intent(zone, name, known)) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_second_compile_is_equal(seed: int) -> None:
    """And one of the same text, read again."""
    one, other = made(seed), made(seed)
    for name in one.nodes:
        assert compile_intent(one, name) == compile_intent(one, name) == compile_intent(other, name)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_the_file_does_not_matter(seed: int) -> None:
    """Only lists have an order."""
    tree = random_tree(random.Random(seed))
    mixed = {key: dict(reversed(value.items())) if isinstance(value, dict) else value for key, value in tree.items()}
    first, second = intent(tree), intent(mixed)
    for name in tree["nodes"]:
        one, other = compile_intent(first, name), compile_intent(second, name)
        assert one.facts == other.facts
        assert set(one.advertisements) == set(other.advertisements)
        assert {s.name: s.announcements for s in one.speakers} == {s.name: s.announcements for s in other.speakers}


def test_another_process_compiles_the_same() -> None:
    """Hashes of text differ from process to process; nothing may depend on them."""
    program = (
        "from tests.support.intents import lab\n"
        "from appliance.control.compile import compile_intent\n"
        "for name in ('h1', 'gw1', 'rs1'):\n"
        "    desired = compile_intent(lab(), name)\n"
        "    print(desired.speakers, desired.advertisements)\n"
        "    print([f.body for f in sorted(desired.facts, key=lambda f: (type(f).__name__, str(f.key))) if hasattr(f, 'body')])\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
    assert said.pop()


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_that_is_named_is_made(seed: int) -> None:
    """Namespaces, masters, devices under addresses, routes and sysctls, and tables of sets."""
    zone = made(seed)
    for name in zone.nodes:
        desired = compile_intent(zone, name)
        spaces = {HOST, *(fact.name for fact in desired.facts if isinstance(fact, Netns))}
        devices = {(ns, "lo") for ns in spaces} | {f.key for f in desired.facts if isinstance(f, Link)}
        tables = {fact.ns for fact in desired.facts if isinstance(fact, NftTable)}
        for fact in desired.facts:
            assert isinstance(fact, Netns) or fact.ns in spaces
            for device in _devices(fact):
                assert device in devices, fact
            assert not isinstance(fact, NftSet) or fact.ns in tables


def _devices(fact: Fact) -> list[object]:
    """Return the devices that a fact needs."""
    if isinstance(fact, Link):
        return [(fact.ns, fact.master)] if fact.master else [fact.peer] if fact.peer else []
    if isinstance(fact, LinkAddress | Neighbour):
        return [(fact.ns, fact.link)]
    if isinstance(fact, Route):
        return [(fact.ns, hop.link) for hop in fact.hops]
    parts = fact.name.split(".") if isinstance(fact, Sysctl) else []
    if isinstance(fact, Sysctl) and parts[2:3] == ["conf"] and parts[3] not in ("all", "default"):
        return [(fact.ns, parts[3])]
    return []


def test_a_route_server_has_no_edge_and_a_gateway_neither() -> None:
    """Whatever stands in the intent."""
    for name in ("rs1", "gw1"):
        assert compile_intent(lab(), name).of(Netns, NftTable) == frozenset()
    assert {fact.name for fact in compile_intent(lab(), "h1").facts if isinstance(fact, Netns)} == {
        "vpc-red",
        "vpc-blue",
    }


@pytest.mark.parametrize("name", NAMED)
def test_every_node_of_the_named_intents_announces_its_loopbacks(name: str) -> None:
    """But route servers, which no packet is sent through."""
    zone = intent(NAMED[name]())
    for node in zone.nodes:
        kinds = [a.kind for a in compile_intent(zone, node).advertisements]
        assert kinds.count("loopback") == (0 if node == "rs1" else 2)
        assert kinds.count("public") == (len(zone.zone.public) if node == "gw1" else 0)


def test_facts_are_selected_by_kind() -> None:
    """For subsystems that hold several."""
    desired = compile_intent(lab(), "h1")
    assert desired.of(Netns, NftTable) == desired.of(Netns) | desired.of(NftTable)
    assert len(desired.of(Netns, NftTable)) == 4
    assert desired.of() == frozenset()


def test_an_address_that_was_a_vip_and_is_a_guests_own_now_has_one_route() -> None:
    """BGP still tells of its members for a while."""
    tree = changed(changed(one_vpc(), "vpcs.red.vips", {}), "vpcs.red.guests.r1.public", str(VIP))
    desired = compile_intent(intent(tree), "h1", Known(members={VIP: (12,)}))
    assert clashes(desired) == []
    (route,) = (f for f in desired.facts if isinstance(f, Route) and f.destination == IPv4Network(VIP))
    assert route.hops[0].link == "ew-v101"


def test_tables_are_applied_in_the_order_of_the_subsystems() -> None:
    """Two lists, one truth."""
    assert tuple(kind for _, kinds in SUBSYSTEMS for kind in kinds) == ORDER


def test_a_node_knows_what_is_around_it() -> None:
    """Connected networks, ids by address, overlays to hosts that share a VPC, its own guests."""
    zone = intent(two_vpcs())
    around = surroundings(zone, "h1")
    assert (around.node_id, around.composed) == (11, zone.zone.composed)
    assert {(str(network), link) for network, link in around.connected} == {
        ("10.0.0.0/24", "eth1"),
        ("fd00:fab::/64", "eth1"),
    }
    assert around.nodes[zone.nodes["h2"].fabric.ipv6.ip] == 12
    assert {vpc: dict(overlay.via) for vpc, overlay in around.overlays.items()} == {
        101: {12: IPv4Address("100.127.0.12")},
        102: {12: IPv4Address("100.127.0.12")},
    }
    here = {(101, "172.16.1.11"), (101, "172.16.1.13"), (102, "172.16.1.21")}
    assert around.guests_here == {(vpc, IPv4Address(address)) for vpc, address in here}


def test_a_gateway_is_connected_to_both_planes_and_has_no_overlay() -> None:
    """It reaches guests by composed destinations alone."""
    around = surroundings(lab(), "gw1")
    assert [link for _, link in around.connected] == ["eth1", "eth2", "eth1", "eth2"]
    assert (dict(around.overlays), around.guests_here) == ({}, frozenset())


def test_the_overlay_leads_only_to_hosts_of_the_vpc() -> None:
    """Others have no end there."""
    tree = changed(two_vpcs(), "vpcs.red.guests.r2.host", "h1")
    around = surroundings(intent(tree), "h1")
    assert {vpc: set(overlay.via) for vpc, overlay in around.overlays.items()} == {101: set(), 102: {12}}


def test_what_is_compiled_is_what_is_written() -> None:
    """A comment or another style of YAML changes nothing."""
    again = parse(LAB + "\n# the end\n")
    assert compile_intent(again, "h1") == compile_intent(lab(), "h1")
    assert compile_intent(parse(to_yaml(two_vpcs())), "h1") == compile_intent(intent(two_vpcs()), "h1")
