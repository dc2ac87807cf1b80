"""OpenBGPD as a neighbour.

It originates by `network ... set { }`; its AS path is its own AS alone. Its view does not tell MED 0 from no MED.
After a lost session it waits about half a minute (IdleHold), so the speaker under test is started before it.
"""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from routing.bgp.values import Attributes, Family, Network, Origin, UnknownAttribute
from tests.support.routers.common import (
    Link,
    Route,
    Router,
    extended,
    normal,
    parse_address,
    parse_community,
    parse_large,
    parse_network,
    parse_path,
)

_ORIGIN = {Origin.IGP: "igp", Origin.EGP: "egp", Origin.INCOMPLETE: "incomplete"}
_CHROOT = Path("/run/openbgpd")
_ROUTE_TARGET = 0x02
_UNKNOWN = "Unknown Attribute #"


class OpenBgpd(Router):
    """One `bgpd -d` and its children; the chroot they share is empty."""

    hidden = frozenset({"zero_med"})

    def start(self) -> None:
        """Start; systemd would make the directory of the chroot, here nobody does."""
        _CHROOT.mkdir(exist_ok=True)
        self._write()
        self.spawn("/usr/sbin/bgpd", "-d", "-f", str(self.directory / "bgpd.conf"))

    def announce(self, *routes: Route) -> None:
        """Rewrite the configuration and reload it."""
        self.routes = routes
        self._write()
        self._bgpctl("reload")

    def table(self, link: Link) -> dict[Network, Attributes]:
        """Read the Adj-RIB-In of the session."""
        answer = json.loads(self._bgpctl("-j", "show", "rib", "in", "detail", "neighbor", str(link.server)))
        return {parse_network(entry["prefix"]): parse_entry(entry) for entry in answer.get("rib", ())}

    def count(self, link: Link) -> int:
        """Return the prefixes received."""
        (view,) = json.loads(self._bgpctl("-j", "show", "neighbor", str(link.server)))["neighbors"]
        received: int = view["stats"]["prefixes"]["received"]
        return received

    def incarnation(self, link: Link) -> str | None:
        """Return how many OPENs were sent, one per attempt."""
        try:
            answer = json.loads(self._bgpctl("-j", "show", "neighbor", str(link.server)))
        except (OSError, ValueError):
            return None
        view = answer["neighbors"][0]
        return str(view["stats"]["message"]["sent"]["open"]) if view["state"] == "Established" else None

    def _bgpctl(self, *words: str) -> str:
        return self.ask("bgpctl", "-s", str(self.directory / "control"), *words)

    def _write(self) -> None:
        lines = [f"AS {self.asn}", f"router-id {self.router_id}", f'socket "{self.directory / "control"}"']
        lines += [*(f"listen on {address}" for address in dict.fromkeys(link.local for link in self.links))]
        lines += ["fib-update no", *(self._network(route) for route in self.routes)]
        lines += [line for link in self.links for line in self._neighbor(link)]
        lines.append("allow from any")
        # Its own routes only: what it learned never goes back to where it came from.
        lines += [f"allow to any prefix {route.prefix}" for route in self.routes]
        path = self.directory / "bgpd.conf"
        path.write_text("\n".join([*lines, ""]))
        path.chmod(0o600)

    def _neighbor(self, link: Link) -> list[str]:
        families = [f" announce {'IPv4' if family is Family.IPV4 else 'IPv6'} unicast" for family in link.families]
        if Family.IPV4 not in link.families:
            families.append(" announce IPv4 none")
        restart = " announce restart yes" if link.restart_time else " announce restart no"
        head = [f"neighbor {link.server} {{", f" remote-as {link.server_asn}", f" local-address {link.local}"]
        return [*head, " enforce neighbor-as no", restart, *families, "}"]

    def _network(self, route: Route) -> str:
        attributes = route.attributes
        internal = all(link.server_asn == self.asn for link in self.links)
        if attributes.path_asns != (() if internal else (self.asn,)):
            raise ValueError(f"OpenBGPD originates with its own AS only: {route}")
        sets = [f"nexthop {attributes.next_hop}", f"origin {_ORIGIN[attributes.origin]}"]
        if attributes.med is not None:
            sets.append(f"metric {attributes.med}")
        if attributes.local_pref is not None:
            sets.append(f"localpref {attributes.local_pref}")
        sets += [f"community {a}:{b}" for a, b in attributes.communities]
        sets += [f"large-community {a}:{b}:{c}" for a, b, c in attributes.large_communities]
        sets += [_set_extended(word) for word in attributes.extended_communities]
        return f"network {route.prefix} set {{ {' '.join(sets)} }}"


def _set_extended(word: bytes) -> str:
    value = int.from_bytes(word[4:], "big")
    if word[0]:
        raise ValueError(f"only two-octet AS specific extended communities are written: {word.hex()}")
    return f"ext-community {'rt' if word[1] == _ROUTE_TARGET else 'soo'} {int.from_bytes(word[2:4], 'big')}:{value}"


def parse_entry(entry: dict[str, Any]) -> Attributes:
    """Parse one entry of `bgpctl -j show rib detail`."""
    others = {attribute["type"]: attribute for attribute in entry.get("attributes", ())}
    aggregator = others.get("Aggregator")
    originator = others.get("Originator Id", {}).get("originator")
    return normal(
        Attributes(
            next_hop=parse_address(entry["exit_nexthop"]),
            origin=Origin[entry["origin"].upper()],
            as_path=parse_path(entry["aspath"]),
            med=entry["metric"] or None,
            local_pref=entry["localpref"] if entry["source"] == "internal" else None,
            atomic_aggregate="Atomic Aggregate" in others,
            aggregator=(aggregator["AS"], IPv4Address(aggregator["router_id"])) if aggregator else None,
            communities=tuple(parse_community(word) for word in entry.get("communities", ())),
            large_communities=tuple(parse_large(word) for word in entry.get("large_communities", ())),
            extended_communities=tuple(_extended(word) for word in entry.get("extended_communities", ())),
            originator_id=IPv4Address(originator) if originator else None,
            cluster_list=tuple(IPv4Address(word) for word in others.get("Cluster Id List", {}).get("cluster_list", ())),
            unknown=tuple(_unknown(attribute) for name, attribute in others.items() if name.startswith(_UNKNOWN)),
        )
    )


def _extended(word: str) -> bytes:
    kind, administrator_value = word.split(" ")
    administrator, value = administrator_value.split(":")
    return extended(kind, administrator, int(value))


def _unknown(attribute: dict[str, Any]) -> UnknownAttribute:
    flags = attribute["flags"]
    bits = 0x80 * flags["optional"] | 0x40 * flags["transitive"]
    number = int(attribute["type"].removeprefix(_UNKNOWN))
    return UnknownAttribute(bits, number, bytes.fromhex(attribute.get("data", "")))
