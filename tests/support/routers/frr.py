"""FRR's bgpd (with zebra for its next-hop tracking) as a neighbour.

It originates by `network` with one route-map per prefix. On eBGP it always prepends its AS and sends its own next hop,
so a route to announce has to say that too, and it gives every route a MED.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Any

from routing.bgp.values import Address, Attributes, Family, Network, Origin, Segment, SegmentType
from tests.support.routers.common import (
    Link,
    Route,
    Router,
    extended,
    join,
    normal,
    parse_address,
    parse_community,
    parse_large,
    parse_network,
)
from tests.support.waiting import eventually

_DAEMONS = "/usr/lib/frr"
_UNICAST = {Family.IPV4: "ipv4 unicast", Family.IPV6: "ipv6 unicast"}
_ORIGIN = {Origin.IGP: "igp", Origin.EGP: "egp", Origin.INCOMPLETE: "incomplete"}
_ROUTE_TARGET = 0x02


class Frr(Router):
    """zebra and bgpd, as user frr, with vty and zserv sockets in a directory of their own."""

    hidden = frozenset({"unknown"})

    def start(self) -> None:
        """Start zebra, then bgpd: if zebra is not there at once, bgpd tries again 10 s later, and announces nothing."""
        for name, text in (("zebra", ""), ("bgpd", self._config())):
            (self.directory / f"{name}.conf").write_text(text)
        (self.directory / "log").touch()
        for path in (self.directory, *self.directory.iterdir()):
            shutil.chown(path, "frr", "frr")
        self._run("zebra")
        eventually((self.directory / "zserv.api").exists, what="zebra listens")
        # -n: routes of BGP do not go to zebra, the kernel's table stays as it is.
        self._run("bgpd", "-n")

    def announce(self, *routes: Route) -> None:
        """Remove and add `network` statements with their route-maps."""
        old, new = set(self.routes), set(routes)
        self.routes = routes
        lines = ["configure terminal"]
        for verb, changed in (("no ", old - new), ("", new - old)):
            maps = [line for route in changed for line in self._route_map(route)] if not verb else []
            lines += [*maps, f"router bgp {self.asn}"]
            for route in changed:
                family = f"address-family {_UNICAST[Family.of(route.prefix)]}"
                lines += [family, f"{verb}network {route.prefix} route-map {_map(route)}", "exit-address-family"]
            lines.append("exit")
        lines += self._own()
        self._vtysh(*lines)

    def table(self, link: Link) -> dict[Network, Attributes]:
        """Read the detailed table and keep the paths of this session's peer."""
        found = {}
        for family in link.families:
            table = json.loads(self._vtysh(f"show bgp {_UNICAST[family]} json detail"))
            found.update(parse_table(table, link.server))
        return found

    def count(self, link: Link) -> int:
        """Add the accepted prefixes of all families."""
        view = json.loads(self._vtysh(f"show bgp neighbors {link.server} json")).get(str(link.server), {})
        return sum(family.get("acceptedPrefixCounter", 0) for family in view.get("addressFamilyInfo", {}).values())

    def incarnation(self, link: Link) -> str | None:
        """Return how often the session was established so far."""
        try:
            view = json.loads(self._vtysh(f"show bgp neighbors {link.server} json")).get(str(link.server), {})
        except (OSError, ValueError):
            return None
        return str(view["connectionsEstablished"]) if view.get("bgpState") == "Established" else None

    def _run(self, daemon: str, *flags: str) -> None:
        here = self.directory
        sockets = ["--vty_socket", str(here), "-z", str(here / "zserv.api"), "-P", "0"]
        files = ["-f", str(here / f"{daemon}.conf"), "-i", str(here / f"{daemon}.pid"), "--log", f"file:{here / 'log'}"]
        self.spawn(f"{_DAEMONS}/{daemon}", *sockets, *files, *flags)

    def _vtysh(self, *commands: str) -> str:
        words = [word for command in commands for word in ("-c", command)]
        return self.ask("vtysh", "--vty_socket", str(self.directory), *words)

    def _config(self) -> str:
        lines = ["frr defaults traditional", *(line for route in self.routes for line in self._route_map(route))]
        lines += [*self._own(), f"router bgp {self.asn}", f" bgp router-id {self.router_id}"]
        lines += [" no bgp ebgp-requires-policy", " no bgp network import-check", " no bgp default ipv4-unicast"]
        if any(link.restart_time for link in self.links):
            lines += [" bgp graceful-restart", f" bgp graceful-restart restart-time {self.links[0].restart_time}"]
        for link in self.links:
            peer = f" neighbor {link.server}"
            lines += [f"{peer} remote-as {link.server_asn}", f"{peer} timers connect 1"]
            lines += [f"{peer} advertisement-interval 0", f"{peer} update-source {link.local}"]
            if link.extended_next_hop:
                lines.append(f"{peer} capability extended-nexthop")
        for family in Family:
            lines.append(f" address-family {_UNICAST[family]}")
            lines += [f"  network {r.prefix} route-map {_map(r)}" for r in self.routes if Family.of(r.prefix) is family]
            for link in self.links:
                if family in link.families:
                    lines += [f"  neighbor {link.server} {word}" for word in ("activate", "route-map own out")]
                if family in link.families and link.server_asn != self.asn:
                    lines.append(f"  neighbor {link.server} allowas-in 10")
            lines.append(" exit-address-family")
        return "\n".join([*lines, ""])

    def _own(self) -> list[str]:
        """Return the export filter: what it learned never goes back to where it came from."""
        lists = [f"ip{'v6' if r.prefix.version == 6 else ''} prefix-list own permit {r.prefix}" for r in self.routes]
        # A route-map that names a list which does not exist matches everything.
        nothing = ["ip prefix-list own deny 0.0.0.0/32", "ipv6 prefix-list own deny ::/128"]
        rules = ["route-map own permit 4", "match ip address prefix-list own", "exit"]
        rules += ["route-map own permit 6", "match ipv6 address prefix-list own", "exit"]
        return [*nothing, *lists, *rules]

    def _route_map(self, route: Route) -> Iterable[str]:
        attributes = route.attributes
        asns = attributes.path_asns
        internal = all(link.server_asn == self.asn for link in self.links)
        if not internal and asns[:1] != (self.asn,):
            raise ValueError(f"FRR puts its own AS in front: {route}")
        if attributes.med is None:
            raise ValueError(f"FRR originates no route without MED: {route}")
        sets = [f"origin {_ORIGIN[attributes.origin]}", f"metric {attributes.med}"]
        rest = asns if internal else asns[1:]
        if rest:
            sets.append("as-path prepend " + " ".join(map(str, rest)))
        if attributes.local_pref is not None:
            sets.append(f"local-preference {attributes.local_pref}")
        if attributes.atomic_aggregate:
            sets.append("atomic-aggregate")
        if attributes.aggregator:
            sets.append("aggregator as {} {}".format(*attributes.aggregator))
        if attributes.communities:
            sets.append("community " + " ".join(f"{a}:{b}" for a, b in attributes.communities))
        if attributes.large_communities:
            sets.append("large-community " + " ".join(f"{a}:{b}:{c}" for a, b, c in attributes.large_communities))
        sets += [_set_extended(word) for word in attributes.extended_communities]
        return [f"route-map {_map(route)} permit 1", *(f"set {words}" for words in sets), "exit"]


def _map(route: Route) -> str:
    return "set-" + str(route.prefix).replace("/", "-")


def _set_extended(word: bytes) -> str:
    value = int.from_bytes(word[4:], "big")
    if word[0]:
        raise ValueError(f"only two-octet AS specific extended communities are written: {word.hex()}")
    return f"extcommunity {'rt' if word[1] == _ROUTE_TARGET else 'soo'} {int.from_bytes(word[2:4], 'big')}:{value}"


def parse_table(table: dict[str, Any], server: Address) -> dict[Network, Attributes]:
    """Parse `show bgp ... json detail`: the paths whose peer is `server`."""
    found: dict[Network, Attributes] = {}
    for prefix, entries in table.get("routes", {}).items():
        for entry in entries:
            if entry.get("peer", {}).get("peerId") == str(server):
                found[parse_network(prefix)] = _attributes(entry)
    return found


def _attributes(entry: dict[str, Any]) -> Attributes:
    words = {name: entry.get(name, {}).get("string", "").split() for name in _SETS}
    aggregator = (entry["aggregatorAs"], IPv4Address(entry["aggregatorId"])) if "aggregatorAs" in entry else None
    return normal(
        Attributes(
            next_hop=parse_address(entry["nexthops"][0]["ip"]),
            origin=Origin[entry["origin"].upper()],
            as_path=join(tuple(_segment(s) for s in entry["aspath"]["segments"])),
            med=entry.get("metric"),
            local_pref=entry.get("locPrf"),
            atomic_aggregate=entry.get("atomicAggregate", False),
            aggregator=aggregator,
            communities=tuple(parse_community(word) for word in words["community"]),
            large_communities=tuple(parse_large(word) for word in words["largeCommunity"]),
            extended_communities=tuple(_extended(word) for word in words["extendedCommunity"]),
            originator_id=IPv4Address(entry["originatorId"]) if "originatorId" in entry else None,
            cluster_list=tuple(IPv4Address(word) for word in entry.get("clusterList", {}).get("list", ())),
        )
    )


_SETS = ("community", "largeCommunity", "extendedCommunity")


def _segment(segment: dict[str, Any]) -> Segment:
    kind = SegmentType.SET if segment["type"] == "as-set" else SegmentType.SEQUENCE
    return Segment(kind, tuple(segment["list"]))


def _extended(word: str) -> bytes:
    kind, administrator, value = word.split(":")
    return extended(kind, administrator, int(value))
