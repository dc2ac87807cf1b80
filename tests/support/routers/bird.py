"""BIRD 2 as a neighbour: it can announce any sequence path and next hop, and shows every attribute it received.

Its eBGP sessions are configured as `rs client`, which makes it send attributes exactly as they are written.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address

from routing.bgp.values import Attributes, Family, Network, Origin, SegmentType, UnknownAttribute
from tests.support.routers.common import Link, Route, Router, extended, normal, parse_address, parse_network, parse_path

_ORIGIN = {Origin.IGP: "ORIGIN_IGP", Origin.EGP: "ORIGIN_EGP", Origin.INCOMPLETE: "ORIGIN_INCOMPLETE"}
_CHANNEL = {Family.IPV4: "ipv4", Family.IPV6: "ipv6"}
_HEAD = re.compile(r"^(\S+/\d+)?\s+(?:unicast|unreachable|blackhole|prohibit) \[(\w+) [^]]*\](?: (\*))?")
_ATTRIBUTE = re.compile(r"^\t(?:BGP\.)?(\w+)(?: \[(\w*)\])?: ?(.*)$")
_TUPLE = re.compile(r"\(([^)]*)\)")
_OPTIONAL, _TRANSITIVE = 0x80, 0x40


class Bird(Router):
    """One `bird -f`; its control socket is private, so is its pid file."""

    def start(self) -> None:
        """Start; `-R` takes part in graceful restart when there was a life before this one."""
        recover = ["-R"] if (self.directory / "control").exists() else []
        self._write()
        control, pid = self.directory / "control", self.directory / "pid"
        self.spawn("bird", "-f", "-c", str(self.directory / "bird.conf"), "-s", str(control), "-P", str(pid), *recover)

    def announce(self, *routes: Route) -> None:
        """Rewrite the static routes and let BIRD reconfigure: it changes what differs."""
        self.routes = routes
        self._write()
        answer = self._birdc("configure")
        if "Reconfigured" not in answer and "Reconfiguration in progress" not in answer:
            raise OSError(answer)

    def table(self, link: Link) -> dict[Network, Attributes]:
        """Read `show route all` of the session's protocol."""
        return parse_routes(self._birdc(f"show route all protocol {self._name(link)}"))

    def count(self, link: Link) -> int:
        """Read `show route count`, the lines of both families."""
        lines = self._birdc(f"show route protocol {self._name(link)} count").splitlines()
        return sum(int(line.split()[0]) for line in lines if " of " in line and "total" not in line.lower())

    def incarnation(self, link: Link) -> str | None:
        """Return how often the session was established in this life, by the log."""
        name = self._name(link)
        try:
            words = self._birdc(f"show protocols {name}").split()
        except OSError:
            return None
        return str(self.log().count(f"{name}: BGP session established")) if words[-1] == "Established" else None

    def down(self, link: Link) -> None:
        """Shut one session down in an orderly way (NOTIFICATION 6/2)."""
        self._birdc(f"disable {self._name(link)}")

    def up(self, link: Link) -> None:
        """Let a session come again."""
        self._birdc(f"enable {self._name(link)}")

    def _birdc(self, command: str) -> str:
        done = subprocess.run(
            ["birdc", "-s", str(self.directory / "control"), *command.split()],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        if "ready." not in done.stdout:
            raise OSError(done.stdout + done.stderr + self.log())
        return done.stdout.split("ready.\n", 1)[1]

    def _name(self, link: Link) -> str:
        return f"p{self.links.index(link)}"

    def _write(self) -> None:
        head = [
            f"router id {self.router_id};",
            f'log "{self.directory / "log"}" all;',
            f"graceful restart wait {max([5, *(link.restart_time for link in self.links)])};",
            "protocol device {}",
        ]
        text = "\n".join([*head, statics(self.routes), *(self._protocol(link) for link in self.links)])
        (self.directory / "bird.conf").write_text(text + "\n")

    def _protocol(self, link: Link) -> str:
        external = link.server_asn != self.asn
        restart = f"graceful restart on; graceful restart time {link.restart_time};" if link.restart_time else ""
        channels = "".join(
            f" {_CHANNEL[family]} {{ import all; export where source = RTS_STATIC; next hop keep;"
            f" {'extended next hop on;' if link.extended_next_hop and family is Family.IPV4 else ''} }};\n"
            for family in link.families
        )
        return (
            f"protocol bgp {self._name(link)} {{ debug {{ events }};\n"
            f" local {link.local} as {self.asn}; neighbor {link.server} as {link.server_asn}; direct;\n"
            f" {'rs client; allow local as 10;' if external else ''} interpret communities off;\n"
            f" connect delay time 1; connect retry time 1; error wait time 1, 2; startup hold time 10;\n"
            f" {f'local role {link.role};' if link.role else ''}\n"
            f" {restart or 'graceful restart off;'} long lived graceful restart off;\n{channels}}}"
        )


def statics(routes: Iterable[Route]) -> str:
    """Return BIRD configuration text that originates `routes`: one function per attribute set, one line per prefix."""
    functions: dict[Attributes, str] = {}
    lines: dict[int, list[str]] = {4: [], 6: []}
    for route in routes:
        name = functions.setdefault(route.attributes, f"set{len(functions)}")
        lines[route.prefix.version].append(f" route {route.prefix} blackhole {{ {name}(); }};")
    text = [f"function {name}() {{ {_statements(attributes)} }}" for attributes, name in functions.items()]
    for version, listed in lines.items():
        text += [f"protocol static static{version} {{", f" ipv{version} {{}};", *listed, "}"]
    return "\n".join(text)


def _statements(attributes: Attributes) -> str:
    if any(s.type is SegmentType.SET for s in attributes.as_path) or attributes.aggregator or attributes.unknown:
        raise ValueError(f"BIRD's filters cannot originate this: {attributes}")
    out = [f"bgp_origin = {_ORIGIN[attributes.origin]};", f"bgp_next_hop = {attributes.next_hop};"]
    out += [f"bgp_path.prepend({asn});" for asn in reversed(attributes.path_asns)]
    if attributes.med is not None:
        out.append(f"bgp_med = {attributes.med};")
    if attributes.local_pref is not None:
        out.append(f"bgp_local_pref = {attributes.local_pref};")
    out += [f"bgp_community.add(({a},{b}));" for a, b in attributes.communities]
    out += [f"bgp_large_community.add(({a},{b},{c}));" for a, b, c in attributes.large_communities]
    out += [
        f"bgp_ext_community.add((generic,0x{word[:4].hex()},0x{word[4:].hex()}));"
        for word in attributes.extended_communities
    ]
    return " ".join(out)


@dataclass(frozen=True, slots=True)
class Entry:
    """One route of `show route all`: the protocol that taught it, whether it is the best, its fields as written."""

    prefix: Network
    protocol: str
    best: bool
    fields: dict[str, tuple[str, str]]

    @property
    def attributes(self) -> Attributes:
        """Parse the fields of BGP."""
        return _attributes(tuple(self.fields.items()))


def parse_routes(text: str) -> dict[Network, Attributes]:
    """Parse `show route all` of one session."""
    return {entry.prefix: entry.attributes for entry in parse_entries(text)}


def parse_entries(text: str) -> list[Entry]:
    """Parse `show route all`; the prefix is written once above all its routes."""
    entries: list[Entry] = []
    for line in text.splitlines():
        head = _HEAD.match(line)
        attribute = _ATTRIBUTE.match(line)
        if head:
            prefix = parse_network(head[1]) if head[1] else entries[-1].prefix
            entries.append(Entry(prefix, head[2], bool(head[3]), {}))
        elif attribute and entries:
            entries[-1].fields[attribute[1]] = (attribute[2] or "", attribute[3])
    return entries


@lru_cache(maxsize=16384)
def _attributes(items: tuple[tuple[str, tuple[str, str]], ...]) -> Attributes:
    fields = dict(items)
    plain = {name: value for name, (_, value) in fields.items()}
    aggregator = re.match(r"(\S+) AS(\d+)", plain.get("aggregator", ""))
    return normal(
        Attributes(
            next_hop=parse_address(plain["next_hop"].split()[0]),
            origin=Origin[plain["origin"].upper()],
            as_path=parse_path(plain.get("as_path", "")),
            med=int(plain["med"]) if "med" in plain else None,
            local_pref=int(plain["local_pref"]) if "local_pref" in plain else None,
            atomic_aggregate="atomic_aggr" in plain,
            aggregator=(int(aggregator[2]), IPv4Address(aggregator[1])) if aggregator else None,
            communities=tuple((a, b) for a, b in _numbers(plain.get("community", ""))),
            large_communities=tuple((a, b, c) for a, b, c in _numbers(plain.get("large_community", ""))),
            extended_communities=tuple(_extended(word) for word in _TUPLE.findall(plain.get("ext_community", ""))),
            originator_id=IPv4Address(plain["originator_id"]) if "originator_id" in plain else None,
            cluster_list=tuple(IPv4Address(word) for word in plain.get("cluster_list", "").split()),
            unknown=(
                *(_unknown(name, *value) for name, value in fields.items() if re.fullmatch("[0-9a-f]{2}", name)),
                # ONLY_TO_CUSTOMER, which it knows.
                *(
                    UnknownAttribute(0xC0, 35, int(plain[name]).to_bytes(4, "big"))
                    for name in ("otc",)
                    if name in plain
                ),
            ),
        )
    )


def _numbers(text: str) -> list[tuple[int, ...]]:
    return [tuple(int(part) for part in word.split(",")) for word in _TUPLE.findall(text)]


def _extended(word: str) -> bytes:
    kind, first, second = (part.strip() for part in word.split(","))
    if kind == "generic":
        return int(first, 16).to_bytes(4, "big") + int(second, 16).to_bytes(4, "big")
    return extended(kind, first, int(second))


def _unknown(name: str, flags: str, octets: str) -> UnknownAttribute:
    bits = _OPTIONAL | (_TRANSITIVE if "t" in flags else 0)
    return UnknownAttribute(bits, int(name, 16), bytes.fromhex(octets.replace(" ", "")))
