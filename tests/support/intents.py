"""Intents for tests: a few small ones by name, and random ones that are valid by construction.

A tree is what stands in the file: dicts, lists and scalars. `intent(tree)` takes the same road as the operator's file.
"""

from __future__ import annotations

import copy
import random
from io import StringIO
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from appliance.model.errors import OperatorError
from appliance.model.intent import Intent
from appliance.model.load import parse
from appliance.model.marks import port_blocks

Tree = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
#: The text of the lab's intent.
LAB = (ROOT / "labs/az/intent.yaml").read_text()


def to_yaml(tree: Tree) -> str:
    """Write a tree in block style."""
    stream = StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment] # the library types it as None
    yaml.representer.ignore_aliases = lambda _: True
    yaml.dump(tree, stream)
    return stream.getvalue()


def intent(tree: Tree) -> Intent:
    """Parse and verify a tree."""
    return parse(to_yaml(tree))


def lab() -> Intent:
    """Return the lab's intent."""
    return parse(LAB)


def node(number: int, *roles: str, exchange: bool = False, **more: Any) -> Tree:
    """Return a node of which every number follows from its id."""
    made: Tree = {
        "id": number,
        "roles": list(roles),
        "loopback": {"ipv4": f"10.255.0.{number}", "ipv6": f"fd00:ff::{number}"},
        "fabric": {"interface": "eth1", "ipv4": f"10.0.0.{number}/24", "ipv6": f"fd00:fab::{number}/64"},
    }
    if exchange:
        ports = {"ipv4": f"192.0.2.{number}/24", "ipv6": f"2001:db8:ff::{number}/64"}
        made["exchange"] = {"interface": "eth2", **ports}
    return made | more


def guest(host: str, number: int, **more: Any) -> Tree:
    """Return a guest of 172.16.1.0/24."""
    return {"host": host, "interface": f"tap{number}", "address": f"172.16.1.{number}", **more}


def bare() -> Tree:
    """Return the smallest intent: a zone with one route server."""
    zone = {"name": "az1", "as": 64512, "exchange-as": 64500, "public": ["203.0.113.0/24"]}
    return {"zone": zone, "nodes": {"rs1": node(1, "route-server", exchange=True)}}


def pair() -> Tree:
    """Return a zone with two hosts and a gateway, and no VPC."""
    tree = bare()
    tree["nodes"] |= {"h1": node(11, "host"), "h2": node(12, "host"), "gw1": node(21, "gateway", exchange=True)}
    return tree


def one_vpc() -> Tree:
    """Return `pair` with one VPC on both hosts that uses every service."""
    tree = pair()
    tree["vpcs"] = {
        "red": {
            "id": 101,
            "subnet": "172.16.1.0/24",
            "snat": {"address": "203.0.113.1", "block": 1024},
            "guests": {"r1": guest("h1", 11, public="203.0.113.11"), "r2": guest("h2", 12), "r3": guest("h1", 13)},
            "vips": {
                "web": {"address": "203.0.113.80", "port": 80, "target-port": 8080, "backends": ["r1", "r2", "r3"]}
            },
            "firewall": {"rules": [{"action": "allow", "destination": ["r1"], "protocol": "tcp", "ports": [8080]}]},
        }
    }
    return tree


def two_vpcs() -> Tree:
    """Return `one_vpc` with a second tenant that has the same subnet."""
    tree = one_vpc()
    blue = {"id": 102, "subnet": "172.16.1.0/24", "snat": {"address": "203.0.113.2"}}
    tree["vpcs"]["blue"] = blue | {"guests": {"b1": guest("h1", 21), "b2": guest("h2", 22)}}
    return tree


NAMED = {"bare": bare, "pair": pair, "one-vpc": one_vpc, "two-vpcs": two_vpcs}


def changed(tree: Tree, path: str, value: Any) -> Tree:
    """Return a copy with the value at a dotted path set; `...` deletes."""
    tree = copy.deepcopy(tree)
    *parents, last = path.split(".")
    here: Any = tree
    for part in parents:
        here = here[int(part)] if isinstance(here, list) else here.setdefault(part, {})
    if value is ...:
        del here[int(last) if isinstance(here, list) else last]
    else:
        here[int(last) if isinstance(here, list) else last] = value
    return tree


def found(tree: Tree) -> dict[str, str]:
    """Return what is wrong with a tree: messages by path."""
    messages: dict[str, list[str]] = {}
    try:
        intent(tree)
    except OperatorError as error:
        for finding in error.findings:
            messages.setdefault(finding.path, []).append(finding.message)
    return {path: "; ".join(words) for path, words in messages.items()}


def random_tree(dice: random.Random) -> Tree:
    """Return a valid intent: some nodes of each role, some peers, some VPCs with some services."""
    slots = dice.choice((4, 8, 16, 32))
    tree = bare()
    tree["zone"] |= {"nat-slots": slots, "public": ["203.0.113.0/24", "198.51.100.0/25"]}
    if dice.random() < 0.5:
        tree["nodes"]["rs2"] = node(2, "route-server", exchange=dice.random() < 0.7, engine="exabgp")
    for number in dice.sample(range(3, 8), dice.randint(0, 2)):
        tree["nodes"][f"gw{number}"] = node(number, "gateway", exchange=True)
    hosts = [slot + slots * dice.randrange(64 // slots) for slot in dice.sample(range(slots), dice.randint(0, 4))]
    for number in hosts:
        if 8 <= number <= 63:
            both = dice.random() < 0.2
            roles = ("host", "gateway") if both else ("host",)
            tree["nodes"][f"h{number}"] = node(number, *roles, exchange=both, engine=dice.choice(("gobgp", "exabgp")))
    tree["peers"] = _peers(dice)
    names = [name for name in tree["nodes"] if name.startswith("h")]
    publics = [str(IPv4Address("203.0.113.1") + n) for n in dice.sample(range(250), 250)]
    numbers = dice.sample(range(1, 60_001), 4)
    count = dice.randint(0, 4)
    tree["vpcs"] = {f"vpc{n}": _vpc(dice, tree, names, publics, n, numbers[n]) for n in range(count)}
    return tree


def _peers(dice: random.Random) -> Tree:
    made: Tree = {}
    for number in range(dice.randint(0, 3)):
        addresses = [f"192.0.2.{100 + number}", f"2001:db8:ff::{100 + number}", f"192.0.2.{200 + number}"]
        peer: Tree = {"as": 65100 + number, "addresses": dice.sample(addresses, dice.randint(1, 3))}
        peer["announces"] = dice.choice(
            ({}, {"transit": True, "max-prefixes": 9}, {"prefixes": [f"10.{number + 64}.0.0/16 le 24"]})
        )
        made[f"peer{number}"] = peer
    if dice.random() < 0.5:
        zone = {"plane": "zone", "as": 64512, "announces": {"prefixes": ["10.77.0.0/16 ge 17 le 24", "fd00:77::/48"]}}
        made["legacy"] = zone | dice.choice(({"addresses": ["10.0.0.200"]}, {"range": "10.0.0.192/26"}))
    return made


def _vpc(dice: random.Random, tree: Tree, hosts: list[str], publics: list[str], index: int, number: int) -> Tree:
    subnet = dice.choice([IPv4Network(text) for text in ("172.16.1.0/24", "10.9.0.0/20", "192.168.7.0/27")])
    inside = [subnet.network_address + n for n in dice.sample(range(2, 30), 8)]
    guests: Tree = {}
    for n in range(dice.randint(0, 6) if hosts else 0):
        made = {"host": dice.choice(hosts), "interface": f"tap{index}.{n}", "address": str(inside[n])}
        guests[f"g{n}"] = made | ({"public": publics.pop()} if dice.random() < 0.3 else {})
    vpc: Tree = {"id": number, "subnet": str(subnet), "guests": guests}
    if dice.random() < 0.3:
        vpc["gateway"] = str(inside[7])
    if block := _block(dice, tree, guests):
        vpc["snat"] = {"address": publics.pop(), "block": block, "watermark": dice.choice((0.5, 1, 0.01))}
    if guests:
        vpc["vips"] = _vips(dice, list(guests), publics)
    rules = [_rule(dice, list(guests), subnet) for _ in range(dice.randint(0, 5))]
    sides = {side: dice.choice(("allow", "deny")) for side in ("inbound", "outbound", "internal")}
    return vpc | {"firewall": {"rules": rules, **sides}}


def _block(dice: random.Random, tree: Tree, guests: Tree) -> int | None:
    slots = tree["zone"]["nat-slots"]
    taken = {tree["nodes"][made["host"]]["id"] % slots for made in guests.values()}
    sizes = [n for n in (64, 128, 256, 512, 1024, 2048, 4096) if all(port_blocks(n, slot, slots) for slot in taken)]
    return dice.choice([None, *sizes])


def _vips(dice: random.Random, guests: list[str], publics: list[str]) -> Tree:
    made: Tree = {}
    for n in range(dice.randint(0, 3)):
        backends = dice.sample(guests, dice.randint(1, len(guests)))
        port = dice.choice((80, 65535, 1))
        vip: Tree = {
            "address": publics.pop(),
            "port": port,
            "protocol": dice.choice(("tcp", "udp")),
            "backends": backends,
        }
        if dice.random() < 0.5:
            vip["target-port"] = dice.choice((8080, 1, 65535))
        if dice.random() < 0.3:
            vip["health"] = {"interval": 0.5, "rise": 1}
        made[f"v{n}"] = vip
        if dice.random() < 0.5:
            made[f"w{n}"] = vip | {"port": 443}
    return made


def _rule(dice: random.Random, guests: list[str], subnet: IPv4Network) -> Tree:
    terms = [*guests, str(subnet), "0.0.0.0/0", "10.0.0.0/8", "192.0.2.7"]
    made: Tree = {"action": dice.choice(("allow", "deny", "reject"))}
    for side in ("source", "destination"):
        made[side] = dice.choice(([], ["outside"], dice.sample(terms, dice.randint(1, len(terms)))))
    made["protocol"] = dice.choice(("any", "tcp", "udp", "icmp"))
    if made["protocol"] in ("tcp", "udp"):
        ports = [80, "080", "8000-8099", "8050-9000", "1-65535", 65535, "00053", "7-7", "1-1024"]
        made["ports"] = dice.sample(ports, dice.randint(0, 5))
    return made
