"""A route server as its rules read: who said what, and every answer worked out of that alone each time it is asked.

What `routing.bgp.routeserver` keeps, shares, defers and changes step by step, this does not. It takes the single rules from
`policy`, `decision` and `export`, which have tests of their own. Which prefixes are over a neighbour's limit is not its to
say, only how many: it is told them (`over`) before it is asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from routing.bgp.attributes import OPTIONAL, TRANSITIVE, Code
from routing.bgp.decision import Standing, rank
from routing.bgp.export import Exporter
from routing.bgp.policy import judge, may_export
from routing.bgp.session import Established, treatment
from routing.bgp.values import (
    Address,
    Announcement,
    Attributes,
    Family,
    Neighbor,
    Network,
    Reason,
    Speaker,
    UnknownAttribute,
)


@dataclass(eq=False)
class Client:
    """A neighbour at one address, since it first came up."""

    address: Address
    neighbor: Neighbor
    internal: bool
    router_id: IPv4Address = IPv4Address(0)  # noqa: RUF009 - immutable
    session: Established | None = None
    stale_until: float | None = None


@dataclass(eq=False)
class Route:
    """What somebody (None: we ourselves) says about one prefix."""

    source: Client | None
    attributes: Attributes
    malformed: bool = False
    stale: bool = False

    @property
    def internal(self) -> bool:
        """Tell whether it came by iBGP."""
        return self.source is not None and self.source.internal

    @property
    def avoid(self) -> tuple[int, ...]:
        """Return the AS numbers that a route server does not send it to."""
        return self.attributes.path_asns

    @cached_property
    def standing(self) -> Standing:
        """What the decision looks at."""
        if self.source is None:
            return Standing.own()
        who = self.source
        return Standing.of(self.attributes, internal=who.internal, router_id=who.router_id, address=who.address)


Key = tuple[Address | None, Network]


class NaiveRouteServer:
    """The events of a route server change dictionaries; the questions are answered from them."""

    def __init__(self, speaker: Speaker) -> None:
        """Know nobody."""
        self.clients: dict[Address, Client] = {}
        self.said: dict[Key, Route] = {}
        self.over: set[Key] = set()
        self.speaker = speaker
        self.configure(speaker)

    # -- what happens

    def configure(self, speaker: Speaker) -> None:
        """Become another speaker."""
        self.speaker = speaker
        for address, client in list(self.clients.items()):
            neighbor = self.neighbor_at(address)
            if neighbor is None or neighbor.asn != client.neighbor.asn:
                self._remove(address, lambda _, route: True)
                del self.clients[address]
            else:
                client.neighbor = neighbor
        self.said = {key: route for key, route in self.said.items() if route.source is not None}
        for own in speaker.announcements:
            self.said[None, own.prefix] = Route(None, originated(own))

    def neighbor_at(self, address: Address) -> Neighbor | None:
        """Return whose address it is."""
        wanted = [n for n in self.speaker.neighbors if n.address == address]
        ranges = [n for n in self.speaker.neighbors if n.range is not None and address in n.range]
        return next(iter([*wanted, *sorted(ranges, key=lambda n: -(n.range.prefixlen if n.range else 0))]), None)

    def session_up(self, address: Address, session: Established, now: float) -> None:
        """RFC 4724 4.2: what was kept stays a while, unless the neighbour has not kept forwarding."""
        neighbor = self.neighbor_at(address)
        assert neighbor is not None
        if address in self.clients and self.clients[address].session is not None:
            self.session_down(address, now, graceful=True)
        internal = neighbor.asn == self.speaker.asn
        client = self.clients.setdefault(address, Client(address, neighbor, internal))
        client.session, client.router_id = session, session.router_id
        self._remove(address, lambda family, route: route.stale and family not in session.preserved)
        for route in self._of(address).values():
            route.__dict__.pop("standing", None)
        client.stale_until = now + neighbor.restart_time

    def session_down(self, address: Address, now: float, *, graceful: bool) -> None:
        """RFC 4724 4.2: what is not stale becomes stale in the families that were agreed on."""
        client = self.clients[address]
        session, client.session = client.session, None
        assert session is not None
        helped = graceful and session.restart_time is not None and client.neighbor.restart_time > 0
        kept = session.kept if helped else frozenset()
        self._remove(address, lambda family, route: route.stale or family not in kept)
        for route in self._of(address).values():
            route.stale = True
        client.stale_until = now + (session.restart_time or 0)

    def announce(self, address: Address, attributes: Attributes, prefixes: Iterable[Network]) -> None:
        """Learn routes; RFC 7606 7.5, 7.9, 7.10 of what does not cross the border of an AS."""
        client = self.clients[address]
        if not client.internal:
            attributes = replace(attributes, local_pref=None, originator_id=None, cluster_list=())
        for prefix in prefixes:
            self.said[address, prefix] = Route(client, attributes)

    def malformed(self, address: Address, prefixes: Iterable[Network]) -> None:
        """Learn that routes were announced which nobody can use."""
        for prefix in prefixes:
            self.said[address, prefix] = Route(self.clients[address], Attributes(address), malformed=True)

    def withdraw(self, address: Address, prefixes: Iterable[Network]) -> None:
        """Unlearn routes."""
        for prefix in prefixes:
            self.said.pop((address, prefix), None)

    def end_of_rib(self, address: Address, of: Family) -> None:
        """Drop what was not said again."""
        self._remove(address, lambda family, route: route.stale and family is of)

    def tick(self, now: float) -> None:
        """Drop what was kept long enough."""
        for address, client in self.clients.items():
            if client.stale_until is not None and client.stale_until <= now:
                self._remove(address, lambda _, route: route.stale)

    def _of(self, address: Address) -> dict[Key, Route]:
        return {key: route for key, route in self.said.items() if key[0] == address}

    def _remove(self, address: Address, which: Any) -> None:
        for key, route in self._of(address).items():
            if which(Family.of(key[1]), route):
                del self.said[key]

    # -- what follows

    def reason(self, key: Key) -> Reason | None:
        """Say why a route is refused."""
        route = self.said[key]
        if route.malformed:
            return Reason.MALFORMED
        if route.source is None:
            return None
        judged = judge(key[1], route.attributes, route.source.neighbor, self.speaker)
        return Reason.MAX_PREFIXES if judged is None and key in self.over else judged

    def reasons(self, address: Address) -> dict[Network, Reason | None]:
        """Say what is thought of all that a neighbour says."""
        return {key[1]: self.reason(key) for key in self._of(address)}

    def ranked(self, prefix: Network) -> tuple[Route, ...]:
        """Return the accepted routes to a prefix, best first."""
        return rank([route for key, route in self.said.items() if key[1] == prefix and self.reason(key) is None])

    def sent(self) -> dict[Address, dict[Network, Attributes]]:
        """Return the Adj-RIB-Out of all who are up."""
        order = {prefix: self.ranked(prefix) for prefix in dict.fromkeys(prefix for _, prefix in self.said)}
        tables: dict[Address, dict[Network, Attributes]] = {}
        for address, client in self.clients.items():
            if client.session is not None:
                found = {prefix: self._told(client, client.session, prefix, ranked) for prefix, ranked in order.items()}
                tables[address] = {prefix: said for prefix, said in found.items() if said is not None}
        return tables

    def _told(
        self, client: Client, session: Established, prefix: Network, ranked: tuple[Route, ...]
    ) -> Attributes | None:
        family, exporter = Family.of(prefix), Exporter(self.speaker)
        if family not in session.families or not may_export(prefix, client.neighbor.exports):
            return None
        to: Any = client
        how = treatment(client.neighbor, session, self.speaker)
        routes: Any = exporter.candidates(ranked)  # type: ignore[arg-type] # as good as paths
        sayable = [
            (route, said)
            for route in routes
            if not exporter.withheld(route, to) and (said := exporter.attributes(route, how, family)) is not None
        ]
        best = rank([route for route, _ in sayable])[:1]
        said = next((said for route, said in sayable if route in best), None)
        return said if said is None or how.only_to_customer is None else for_customers(said, how.only_to_customer)


def for_customers(said: Attributes, asn: int) -> Attributes:
    """Return attributes with ONLY_TO_CUSTOMER (RFC 9234 5)."""
    if any(one.code == Code.ONLY_TO_CUSTOMER for one in said.unknown):
        return said
    mark = UnknownAttribute(OPTIONAL | TRANSITIVE, Code.ONLY_TO_CUSTOMER, asn.to_bytes(4, "big"))
    return replace(said, unknown=tuple(sorted((*said.unknown, mark), key=lambda one: one.code)))


def originated(own: Announcement) -> Attributes:
    """Return the attributes of a route of ours; the unspecified next hop stands for each session's own address."""
    nobody: Address = IPv4Address(0) if own.prefix.version == 4 else IPv6Address(0)
    return Attributes(
        own.next_hop or nobody,
        med=own.med,
        communities=own.communities,
        large_communities=own.large_communities,
    )
