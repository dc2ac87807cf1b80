"""The core of the native engine without its sessions: real tables, into which a test puts what neighbours say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_network
from typing import Any

from routing.bgp.attributes import encode
from routing.bgp.nlri import pack
from routing.bgp.routeserver import Bests, Converged, RouteServer
from routing.bgp.session import Established
from routing.bgp.update import Format
from routing.bgp.values import (
    Address,
    Attributes,
    ExportPolicy,
    Family,
    ImportPolicy,
    Mode,
    Neighbor,
    Network,
    PrefixRule,
    Segment,
    SegmentType,
    Speaker,
)
from routing.engines.engine import SessionState, Synced
from routing.engines.views import News

HERE = IPv4Address("192.0.2.254")
ANY = tuple(PrefixRule(ip_network(f"{zero}/0"), 0, width) for zero, width in (("0.0.0.0", 32), ("::", 128)))


def at(number: int) -> IPv4Address:
    """Return the address of the n-th neighbour."""
    return IPv4Address("192.0.2.0") + number


def neighbor(number: int, **more: Any) -> Neighbor:
    """Make the n-th neighbour, who may say and hear anything of both families."""
    policies: dict[str, Any] = {"imports": ImportPolicy(ANY), "exports": ExportPolicy(ANY)}
    return replace(Neighbor(f"n{number}", 65000 + number, at(number), families=tuple(Family), **policies), **more)


def speaker(*neighbors: Neighbor, **more: Any) -> Speaker:
    """Make a route server."""
    return replace(Speaker("rs", Mode.TRANSPARENT, 65000, HERE, (HERE,), neighbors=neighbors), **more)


def attributes(number: int, *beyond: int, **more: Any) -> Attributes:
    """Make attributes as the n-th neighbour sends them."""
    return Attributes(at(number), as_path=(Segment(SegmentType.SEQUENCE, (65000 + number, *beyond)),), **more)


@dataclass
class Where:
    """Where a session is."""

    state: SessionState
    detail: str = ""


class FakeCore:
    """Tables, and what was asked of the sessions."""

    def __init__(self, wanted: Speaker, awaited: Iterable[Address] = ()) -> None:
        self.server = RouteServer(wanted, 0, awaited)
        self.peerings = {n.address: Where(SessionState.ACTIVE) for n in wanted.neighbors if n.address is not None}
        self.since: dict[Address, float] = {}
        self.ceased: list[int] = []
        self.steps = 0
        #: Raised by the next configuration, after its first step.
        self.failure: Exception | None = None

    def configure(self, wanted: Speaker, now: float) -> Iterator[None]:
        """Become another speaker, in one step at least."""
        self.steps += 1
        yield
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        for step in self.server.configure(wanted, now):
            self.steps += 1
            yield step

    def cease(self, subcode: int, now: float) -> None:
        """Remember it."""
        self.ceased.append(subcode)

    def watch(self, *, on: bool) -> None:
        """Make news of best paths."""
        self.server.watched = on

    def up(self, number: int, now: float = 0, address: Address | None = None) -> None:
        """Bring a session up."""
        where = address or at(number)
        agreed = Established(at(number), HERE, frozenset(Family), extended_next_hop=True, restart_time=120)
        self.server.session_up(where, agreed, Format(frozenset(Family), internal=False), now)
        self.peerings[where] = Where(SessionState.ESTABLISHED)
        self.since[where] = now

    def say(self, number: int, prefixes: Iterable[Network], said: Attributes | None = None) -> None:
        """Let the n-th neighbour announce prefixes of one family."""
        prefixes, server = list(prefixes), self.server
        family = Family.of(prefixes[0])
        octets, peer = encode(said or attributes(number), family), server.peers[at(number)]
        server.tables.announce(peer, family, peer.path(octets, server.tables.ours), pack(prefixes))

    def unsay(self, number: int, prefixes: Iterable[Network]) -> None:
        """Let the n-th neighbour withdraw prefixes of one family."""
        prefixes = list(prefixes)
        self.server.tables.withdraw(self.server.peers[at(number)], Family.of(prefixes[0]), pack(prefixes))

    def news(self) -> list[News]:
        """Return what a turn of the loop would publish."""
        said: list[News] = []
        for output in self.server.take():
            if isinstance(output, Bests):
                said.append(output)
            elif isinstance(output, Converged):
                said.append(Synced())
        return said
