"""ExaBGP as an announcer of what real routers cannot or will not originate; it keeps no table, so it receives nothing.

AS_SET, AGGREGATOR, unknown attributes, paths that begin with another AS: it sends all of it as written.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from routing.bgp.values import Attributes, Family, Network, Origin, SegmentType
from tests.support.routers.common import Link, Route, Router

_ORIGIN = {Origin.IGP: "igp", Origin.EGP: "egp", Origin.INCOMPLETE: "incomplete"}
_ENVIRONMENT = {
    "exabgp_daemon_user": "root",
    "exabgp_api_cli": "false",
    "exabgp_log_level": "ERROR",
    "exabgp_log_destination": "stderr",
}


class ExaBgp(Router):
    """One exabgp process with static routes and no API."""

    def start(self) -> None:
        """Start; the routes are in the configuration."""
        path = self.directory / "exabgp.conf"
        path.write_text("\n".join(self._neighbor(link) for link in self.links))
        self.spawn(sys.executable, "-m", "exabgp", "server", str(path), env=_ENVIRONMENT)

    def announce(self, *routes: Route) -> None:
        """Refuse: static routes of this announcer do not change."""
        raise NotImplementedError

    def table(self, link: Link) -> dict[Network, Attributes]:
        """Refuse: there is no table."""
        raise NotImplementedError

    def count(self, link: Link) -> int:
        """Refuse: there is no table."""
        raise NotImplementedError

    def incarnation(self, link: Link) -> str | None:
        """Refuse: only the speaker under test knows."""
        raise NotImplementedError

    def _neighbor(self, link: Link) -> str:
        families = "".join(f" {'ipv4' if family is Family.IPV4 else 'ipv6'} unicast;" for family in link.families)
        routes = "\n".join(_static(r) for r in self.routes if Family.of(r.prefix) in link.families)
        extended = " capability { nexthop enable; }\n nexthop { ipv4 unicast ipv6; }\n"
        return (
            f"neighbor {link.server} {{\n local-address {link.local}; local-as {self.asn}; peer-as {link.server_asn};\n"
            f" router-id {self.router_id};\n family {{{families} }}\n"
            f"{extended if link.extended_next_hop else ''} static {{\n{routes}\n }}\n}}"
        )


def _static(route: Route) -> str:
    attributes = route.attributes
    words = [f"route {route.prefix} next-hop {attributes.next_hop} origin {_ORIGIN[attributes.origin]}"]
    words.append("as-path " + (" ".join(_segments(attributes)) or "[ ]"))
    if attributes.med is not None:
        words.append(f"med {attributes.med}")
    if attributes.local_pref is not None:
        words.append(f"local-preference {attributes.local_pref}")
    if attributes.atomic_aggregate:
        words.append("atomic-aggregate")
    if attributes.aggregator:
        words.append("aggregator ( {}:{} )".format(*attributes.aggregator))
    if attributes.originator_id is not None:
        words.append(f"originator-id {attributes.originator_id}")
    words += _list("cluster-list", map(str, attributes.cluster_list))
    words += _list("community", (f"{a}:{b}" for a, b in attributes.communities))
    words += _list("large-community", (f"{a}:{b}:{c}" for a, b, c in attributes.large_communities))
    words += _list("extended-community", (f"0x{word.hex()}" for word in attributes.extended_communities))
    words += [f"attribute [ 0x{u.code:02x} 0x{u.flags:02x} 0x{u.value.hex()} ]" for u in attributes.unknown]
    return "  " + " ".join(words) + ";"


def _segments(attributes: Attributes) -> Iterable[str]:
    for segment in attributes.as_path:
        opening, closing = "()" if segment.type is SegmentType.SET else "[]"
        yield f"{opening} {' '.join(map(str, segment.asns))} {closing}"


def _list(name: str, values: Iterable[str]) -> list[str]:
    found = list(values)
    return [f"{name} [ {' '.join(found)} ]"] if found else []
