"""What the kernel decides about real packets, for random rule sets, is what the rules say one after the other.

    client ---- edge ---- client

The edge remembers in each flow's record which rule decided; packets are in flight one way only, so nobody answers. The
index that holds for a packet is told by its DSCP.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from random import Random
from typing import TYPE_CHECKING, Final

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet as Frame
from scapy.packet import Raw

from appliance.kernel.libnftables import NftContext
from appliance.kernel.nft_text import parse
from appliance.model.facts import Namespace
from services.rules.compile import Stage, Stages, compile_rules, first
from services.rules.elements import declaration, elements, lookups
from services.rules.rule import (
    ANY_ADDRESS,
    ANY_PORT,
    ANY_PROTOCOL,
    FIELDS,
    Box,
    Family,
    Index,
    Match,
    Packet,
    Span,
    Spans,
    evaluate,
)
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.worlds import World

pytestmark = pytest.mark.kernel

CLIENT, EDGE = Namespace("client"), Namespace("edge")
MAC: Final = "02:00:00:00:00:01"
TCP_, UDP_, EXPERIMENT = 6, 17, 253
ICMP_: Final[dict[Family, int]] = {4: 1, 6: 58}
#: Rules and packets are about addresses in here, so that they meet.
BASE: Final[dict[Family, tuple[int, int]]] = {4: (10 << 24, 24), 6: (0x20010DB8 << 96, 96)}
WORDS: Final[dict[Family, type[IPv4Address | IPv6Address]]] = {4: IPv4Address, 6: IPv6Address}
#: The mark of a flow about which no rule says anything.
NOTHING: Final = 0xFFFF
PACKETS = 100
#: A destination that is translated before it is judged.
VIRTUAL: Final[dict[Family, int]] = {4: int(IPv4Address("10.99.0.1")), 6: int(IPv6Address("2001:db8:99::1"))}


@dataclass
class Rules:
    """A random rule set."""

    family: Family
    random: Random
    rules: dict[str, Match] = field(default_factory=dict)
    indexes: list[Index] = field(default_factory=list)

    @classmethod
    def of(cls, family: Family, seed: int) -> Rules:
        """Make rules, narrow ones first, and three indexes: two that agree, one that does not."""
        made = cls(family, Random(seed))
        wild = {(ANY_ADDRESS[family],), (ANY_PROTOCOL,), (ANY_PORT,)}
        matches = sorted((made.match() for _ in range(25)), key=lambda match: sum(one in wild for one in match))
        made.rules = {f"rule{number:02}": match for number, match in enumerate(matches)}
        names = sorted(made.rules)
        made.indexes = [tuple(names), tuple(names[::2]), tuple(made.random.sample(names, 10))]
        return made

    @property
    def real(self) -> int:
        """Return what the virtual destination is translated to: an address that some rule is about."""
        anything = (ANY_ADDRESS[self.family],)
        return next(match.destination[0][1] for match in self.rules.values() if match.destination != anything)

    def match(self) -> Match:
        """Make a match, half of its fields anything."""
        protocols = [
            ((TCP_, TCP_),),
            ((UDP_, UDP_),),
            ((ICMP_[self.family],) * 2,),
            ((EXPERIMENT, EXPERIMENT),),
            ((6, 17),),
        ]
        ports = [((80, 80),), ((80, 89), (443, 443)), ((1024, 65535),), ((0, 1023),)]
        return Match(
            self.addresses(),
            self.addresses(),
            self.random.choice([(ANY_PROTOCOL,), *protocols]),
            self.random.choice([(ANY_PORT,), (ANY_PORT,), *ports]),
        )

    def addresses(self) -> Spans:
        """Make prefixes, hosts and ranges."""
        if self.random.random() < 0.3:
            return (ANY_ADDRESS[self.family],)
        return tuple(self.span() for _ in range(self.random.choice((1, 1, 2))))

    def span(self) -> Span:
        """Make one: a prefix half of the time."""
        base, bits = BASE[self.family]
        if self.random.random() < 0.6:
            size = 1 << self.random.randrange(bits + 1)
            low = base + self.random.getrandbits(bits) // size * size
            return low, low + size - 1
        low, high = sorted((self.random.getrandbits(bits), self.random.getrandbits(bits)))
        return base + low, base + high

    def packets(self) -> Iterator[Packet]:
        """Yield packets, most of them at the edges of rules; ports of those that have none are 0."""
        base, bits = BASE[self.family]
        matches = list(self.rules.values())
        corners = [
            [edge + by for match in matches for span in match[side] for edge in span for by in (-1, 0, 1)]
            for side in (0, 1)
        ]
        inside = [sorted({one for one in found if base <= one < base + (1 << bits)}) for found in corners]
        inside[1] += [VIRTUAL[self.family]] * (len(inside[1]) // 4)
        for number in range(PACKETS):
            source, destination = (
                self.random.choice(found) if self.random.random() < 0.8 else base + self.random.getrandbits(bits)
                for found in inside
            )
            protocol = self.random.choice((TCP_, TCP_, UDP_, ICMP_[self.family], EXPERIMENT))
            port = self.random.choice((0, 79, 80, 85, 443, 1023, 1024, 65535))
            if protocol == ICMP_[self.family]:
                port = 80 + number  # the id of an echo request stands where others have a port
            yield Packet(source, destination, protocol, 0 if protocol == EXPERIMENT else port)


def frame(family: Family, packet: Packet, number: int, index: int) -> bytes:
    """Write a packet; each has a source port of its own, so that each is a flow."""
    source, destination = (str(WORDS[family](address)) for address in packet[:2])
    layers: dict[int, Frame] = {
        TCP_: TCP(sport=10000 + number, dport=packet.port, flags="S"),
        UDP_: UDP(sport=10000 + number, dport=packet.port) / Raw(b"rule"),
        ICMP_[4]: ICMP(type=8, id=packet.port),
        ICMP_[6]: ICMPv6EchoRequest(id=packet.port),
        EXPERIMENT: Raw(b"rule"),
    }
    if family == 4:
        head = IP(src=source, dst=destination, tos=index << 2, proto=packet.protocol)
    else:
        head = IPv6(src=source, dst=destination, tc=index << 2, nh=packet.protocol)
    return bytes(
        Ether(src="02:00:00:00:00:02", dst=MAC, type=0x0800 if family == 4 else 0x86DD) / head / layers[packet.protocol]
    )


def program(made: Rules, stages: Stages) -> str:
    """Write the table: maps of the stages, and a chain for each index."""
    family, names = made.family, sorted(made.rules)
    lines, chains = [], []
    word = "ip" if family == 4 else "ip6"
    for number, stage in enumerate(stages.stages):
        text = ", ".join(elements(stage, family))
        lines += [declaration(stage, f"s{number}", family).removesuffix("}") + f"elements = {{ {text} }}; }}"]
    for place, index in enumerate(made.indexes):
        decided = {number: first(index, rules) for number, rules in stages.sets.items()}
        verdicts = ", ".join(f"{number} : {names.index(rule) + 1}" for number, rule in decided.items() if rule)
        lines.append(f"map v{place} {{ type mark : mark; elements = {{ {verdicts} }}; }}")
        chains.append(f"chain i{place} {{")
        for number, stage in enumerate(stages.stages):
            chains += ["meta mark set 0", *lookups(stage, f"s{number}", family)]
            chains += [f"ct mark set meta mark map @v{place}", "ct mark != 0 accept"]
        chains += [f"ct mark set {NOTHING}", "}"]
    jumps = ", ".join(f"{place} : jump i{place}" for place in range(len(made.indexes)))
    virtual, real = (str(WORDS[family](one)) for one in (VIRTUAL[family], made.real))
    body = [
        *lines,
        *chains,
        "chain pre { type filter hook prerouting priority -90;",
        f"{word} dscp vmap {{ {jumps} }}",
        "}",
    ]
    nat = ["chain nat { type nat hook prerouting priority -100;", f"{word} daddr {virtual} dnat {word} to {real}", "}"]
    return "\n".join(["table inet edgeway {", *body, *nat, "}"])


@pytest.fixture
def edge(world: World) -> World:
    """Make an edge that forwards whatever comes from anybody to anybody."""
    world.make(CLIENT, EDGE)
    there = world.path(EDGE)
    for line in (
        f"link add in0 type veth peer name in1 netns {there}",
        f"link add out0 type veth peer name out1 netns {there}",
        "link set in0 up",
        "link set out0 up",
    ):
        world.run(CLIENT, "ip", *line.split())
    for line in (
        f"link set in1 address {MAC} up",
        "link set out1 up",
        "address add 192.0.2.1/24 dev out1",
        "address add fd00::1/64 dev out1 nodad",
        "neighbour add 192.0.2.2 lladdr 02:00:00:00:00:03 dev out1",
        "neighbour add fd00::2 lladdr 02:00:00:00:00:03 dev out1",
        "route add default via 192.0.2.2",
        "-6 route add default via fd00::2",
    ):
        world.run(EDGE, "ip", *line.split())
    names = (
        "net.ipv4.ip_forward=1",
        "net.ipv6.conf.all.forwarding=1",
        "net.ipv4.conf.all.rp_filter=0",
        "net.ipv4.conf.in1.rp_filter=0",
    )
    world.run(EDGE, "sysctl", "-qw", *names)
    return world


def send(world: World, frames: list[bytes]) -> None:
    """Put frames on the wire."""
    with world.namespaces.in_namespace(CLIENT):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with wire:
        wire.bind(("in0", 0))
        for one in frames:
            wire.send(one)


_RECORD: Final = re.compile(
    r"^\S+\s+\d+ \S+\s+(\d+) .*?src=(\S+) dst=(\S+)(?: sport=(\d+) dport=(\d+)| type=\d+ code=\d+ id=(\d+))? .*mark=(\d+)",
    re.MULTILINE,
)
Key = tuple[int, int, int, int, int]


def records(world: World, family: Family) -> dict[Key, int]:
    """Return the marks of all records by protocol, addresses and ports as the packet had them."""
    text = world.run(EDGE, "conntrack", "-L", "-o", "extended", "-f", f"ipv{family}")
    found: dict[Key, int] = {}
    for protocol, source, destination, sport, dport, identifier, mark in _RECORD.findall(text):
        ends = (int(WORDS[family](source)), int(WORDS[family](destination)))
        key = (int(protocol), *ends, int(sport or 0), int(dport or identifier or 0))
        found[key] = int(mark)
    return found


def run(world: World, *scripts: str) -> str:
    """Run nft scripts in the edge; return what the last one says."""
    said = ""
    with world.namespaces.in_namespace(EDGE):
        context = NftContext()
        for script in scripts:
            said = context.run(script)
        context.close()
    return said


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("family", [4, 6])
def test_the_kernel_decides_as_the_rules_one_after_the_other(
    edge: World, family: Family, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it lists the elements in the words in which they were written."""
    if seed % 2:  # as large maps are: without the fields that tell nothing
        monkeypatch.setattr("services.rules.elements.MANY", 1)
    made = Rules.of(family, seed)
    stages = compile_rules(made.rules, made.indexes)
    listing = parse(run(edge, program(made, stages), "list table inet edgeway"))
    for number, stage in enumerate(stages.stages):
        assert listing.sets[f"s{number}"] == set(elements(stage, family))

    expected: dict[Key, int] = {}
    frames = []
    for number, packet in enumerate(made.packets()):
        index = number % len(made.indexes)
        key = flow(packet, number)
        if key not in expected:
            expected[key] = verdict(made, made.indexes[index], packet)
            frames.append(frame(family, packet, number, index))
    assert len(set(expected.values())) >= 5, "these packets show little"
    send(edge, frames)
    eventually(lambda: records(edge, family).keys() >= expected.keys(), what="every packet has a record")
    seen = records(edge, family)
    assert {key: seen[key] for key in expected} == expected


def flow(packet: Packet, number: int) -> Key:
    """Return the key of the record of a packet."""
    sport = 10000 + number if packet.protocol in (TCP_, UDP_) else 0
    return packet.protocol, packet.source, packet.destination, sport, packet.port


def verdict(made: Rules, index: Index, packet: Packet) -> int:
    """Return the mark that the record should have."""
    if packet.destination == VIRTUAL[made.family]:
        packet = packet._replace(destination=made.real)
    rule = evaluate(made.rules, index, packet)
    return sorted(made.rules).index(rule) + 1 if rule else NOTHING


@pytest.mark.parametrize("family", [4, 6])
def test_a_translated_destination_shows_in_these_packets(family: Family) -> None:
    """Else a look-up of the destination before translation would pass, too."""
    shown = 0
    for seed in range(6):
        made = Rules.of(family, seed)
        for number, packet in enumerate(made.packets()):
            index = made.indexes[number % len(made.indexes)]
            rule = evaluate(made.rules, index, packet)
            shown += verdict(made, index, packet) != (sorted(made.rules).index(rule) + 1 if rule else NOTHING)
    assert shown > 10


@pytest.mark.parametrize("family", [4, 6])
def test_every_span_is_listed_as_it_is_written(edge: World, family: Family) -> None:
    """Any protocol alone and in ranges, ports, and addresses of every shape."""
    top = ANY_ADDRESS[family][1]
    addresses = [(0, 0), (0, top), (top, top), (1, top), (0, 1), (1, 2), (1 << 16, 1 << 16), (1 << 16, (1 << 17) - 1)]
    if family == 6:
        mapped = 0xFFFF << 32
        addresses += [
            (mapped, mapped + 2**32 - 1),
            (mapped + 5, mapped + 7),
            (1 << 32, (1 << 32) + 5),
            (0xFFFF, 1 << 16),
        ]
    protocols = [(low, low + more) for low in range(255) for more in (0, 1)] + [(255, 255), (0, 127), (0, 255)]
    ports = [(0, 0), (0, 65535), (80, 80), (80, 81), (256, 511), (1024, 65535)]
    spans = [(one, two, ANY_PROTOCOL, ANY_PORT) for one in addresses for two in addresses]
    spans += [(one, ANY_ADDRESS[family], (6, 6), port) for one in addresses for port in ports]
    spans += [(ANY_ADDRESS[family], ANY_ADDRESS[family], protocol, ANY_PORT) for protocol in protocols]
    boxes = [Box(*one) for one in spans]
    run(edge, "table inet edgeway {}")
    for order in (FIELDS, FIELDS[::-1]):
        # Elements of one map may not overlap, so each is in a map of its own.
        stages = [Stage(order, {box: number}, {}) for number, box in enumerate(boxes, 1)]
        maps = [
            declaration(stage, f"m{number}", family).removesuffix("}")
            + f"elements = {{ {next(elements(stage, family))} }}; }}"
            for number, stage in enumerate(stages)
        ]
        script = "\n".join(["delete table inet edgeway", "table inet edgeway {", *maps, "}"])
        listing = parse(run(edge, script, "list table inet edgeway"))
        assert [listing.sets[f"m{number}"] for number in range(len(stages))] == [
            set(elements(one, family)) for one in stages
        ]
