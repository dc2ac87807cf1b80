"""Best paths -> routes of this node: the pure, incremental half of FIB sync (design 0003).

`Fib` is told best paths as they change and answers with the changes of routes alone, so a change costs what it changes.
Next hops are resolved on connected networks; a path whose next hop is on none of them is kept, but not installed.
Composed prefixes tell more than a route: which nodes serve a VIP (`members`) and on which node a guest stands (a host
route in the VPC's namespace).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Literal

from appliance.model.composed import Composed, Kind, decompose
from appliance.model.facts import HOST, Address, Hop, Namespace, Network, Route
from appliance.model.marks import PROTO_BGP
from appliance.state.diff import Change
from routing.engines.engine import Best


@dataclass(frozen=True, slots=True)
class Overlay:
    """How this node reaches guests of one VPC on other nodes: next hop by the other node's id."""

    ns: Namespace
    link: str
    via: Mapping[int, IPv4Address]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a node knows of the zone to turn paths into routes; a pure function of the intent.

    `connected` are (network, device); `nodes` maps the fabric's addresses to node ids; `overlays` are by VPC id.
    """

    composed: IPv6Network
    node_id: int
    connected: tuple[tuple[Network, str], ...]
    nodes: Mapping[Address, int]
    overlays: Mapping[int, Overlay]
    guests_here: frozenset[tuple[int, IPv4Address]] = frozenset()


@dataclass(slots=True)
class Fib:
    """Best paths by prefix, and the routes they make."""

    around: Surroundings
    best: dict[Network, Best] = field(default_factory=dict)
    routes: dict[Network, Route] = field(default_factory=dict)
    stale: set[Network] = field(default_factory=set)
    _serving: dict[IPv4Address, set[int]] = field(default_factory=dict)

    @property
    def members(self) -> dict[IPv4Address, tuple[int, ...]]:
        """Node ids that serve each VIP now, this node's own included."""
        return {address: tuple(sorted(ids)) for address, ids in self._serving.items() if ids}

    def learn(self, events: Iterable[Best]) -> list[Change[Route]]:
        """Take new best paths; return what changes among the routes."""
        return [change for event in events for change in self._learn(event)]

    def lost(self) -> None:
        """The engine is gone: keep everything, remember what must be heard of again (RFC 4724's forwarding state)."""
        self.stale = set(self.best)

    def synced(self) -> list[Change[Route]]:
        """Every best path was told since `lost`: forget what was not."""
        gone = [Best(prefix, None) for prefix in self.stale]
        self.stale = set()
        return self.learn(gone)

    def around_changed(self, around: Surroundings) -> list[Change[Route]]:
        """The intent changed: resolve everything again; return what changes."""
        self.around = around
        self._serving.clear()
        return [change for event in self.best.values() for change in self._place(event)]

    def _learn(self, event: Best) -> Iterator[Change[Route]]:
        self.stale.discard(event.prefix)
        if event.attributes is None:
            self.best.pop(event.prefix, None)
        else:
            self.best[event.prefix] = event
        yield from self._place(event)

    def _place(self, event: Best) -> Iterator[Change[Route]]:
        self._serve(event)
        old, new = self.routes.pop(event.prefix, None), self._route(event)
        if new is not None:
            self.routes[event.prefix] = new
        if old is not None and new is not None and old.key == new.key:
            if old != new:
                yield Change("update", old, new)
            return
        # A route that moves to another namespace is another route.
        if old is not None:
            yield Change("delete", old, None)
        if new is not None:
            yield Change("create", None, new)

    def _serve(self, event: Best) -> None:
        meaning = decompose(event.prefix, self.around.composed)
        if meaning is None or meaning.kind is not Kind.VIP:
            return
        ids = self._serving.setdefault(meaning.address, set())
        if event.attributes is None:
            ids.discard(meaning.selector)
        else:
            ids.add(meaning.selector)

    def _route(self, event: Best) -> Route | None:
        if event.attributes is None or event.neighbor == "local":
            return None
        meaning = decompose(event.prefix, self.around.composed)
        next_hop = event.attributes.next_hop
        if meaning is not None and meaning.kind is Kind.GUEST:
            return self._guest(meaning, next_hop)
        link = self.resolve(next_hop)
        return None if link is None else Route(HOST, event.prefix, (Hop(link, next_hop),), PROTO_BGP)

    def _guest(self, meaning: Composed, next_hop: Address) -> Route | None:
        overlay = self.around.overlays.get(meaning.selector)
        node = self.around.nodes.get(next_hop)
        if overlay is None or node is None or (meaning.selector, meaning.address) in self.around.guests_here:
            return None
        via = overlay.via.get(node)
        if via is None:
            return None
        return Route(overlay.ns, IPv4Network(meaning.address), (Hop(overlay.link, via),), PROTO_BGP)

    def resolve(self, next_hop: Address) -> str | None:
        """Return the device of the connected network that holds a next hop."""
        for network, link in self.around.connected:
            if next_hop.version == network.version and next_hop in network:
                return link
        return None


Why = Literal["installed", "local", "next hop unreachable", "kept for the overlay"]


def explain(fib: Fib, prefix: Network) -> Why | None:
    """Say what became of a best path, for `show route`."""
    event = fib.best.get(prefix)
    if event is None:
        return None
    if event.neighbor == "local":
        return "local"
    if prefix in fib.routes:
        return "installed"
    meaning = decompose(prefix, fib.around.composed)
    return "kept for the overlay" if meaning is not None and meaning.kind is Kind.GUEST else "next hop unreachable"


def routes_of(fib: Fib) -> Iterator[Route]:
    """Yield every route the best paths make."""
    yield from fib.routes.values()
