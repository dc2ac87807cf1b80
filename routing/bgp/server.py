"""One BGP speaker without its sessions: UPDATEs of neighbours go in, what to send and which paths are best come out.

Called by an engine's process, which owns sessions and codecs. Pure: `now` in seconds comes in, `deadline` says when
`tick` wants to be called. Messages only change the tables; `take` works out the consequences of all of them at once, so
a burst costs what its net effect costs. After a restart `awaited` are the neighbours that may hold routes of ours as
stale (RFC 4724 4.1): until they have told us everything, or for `DEFERRAL` seconds, nobody hears End-of-RIB from us.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from appliance.model.errors import InternalError
from routing.bgp.decision import Standing
from routing.bgp.export import Exporter
from routing.bgp.policy import ImportCheck
from routing.bgp.rib import Path, Peer, Rib
from routing.bgp.session import Established, treatment
from routing.bgp.spread import Send, Spread
from routing.bgp.values import Address, Announcement, Attributes, Family, Neighbor, Network, Reason, Speaker
from routing.engines.engine import Best

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFERRAL = 60.0
#: A neighbour without graceful restart says no End-of-RIB; it has told its table a moment after it came up.
SETTLING = 3.0
LOCAL = "local"


@dataclass(frozen=True, slots=True)
class EndOfRib:
    """Say End-of-RIB to a neighbour."""

    address: Address
    families: frozenset[Family]


@dataclass(frozen=True, slots=True)
class Converged:
    """After a restart: every neighbour that was there before has told its routes, or its time is over."""


Output = Send | Best | EndOfRib | Converged


class RouteServer:
    """A speaker and its tables."""

    def __init__(self, speaker: Speaker, now: float, awaited: Iterable[Address] = ()) -> None:
        """Start without sessions; `awaited` are the neighbours that were up before a restart."""
        self.speaker = speaker
        self.rib = Rib()
        self.spread = Spread(Exporter(speaker))
        self.peers: dict[Address, Peer] = {}
        self._sessions: dict[Address, Established] = {}
        self._untold: dict[Address, frozenset[Family]] = {}
        self._fixed: dict[Address, Neighbor] = {}
        self._ranges: list[Neighbor] = []
        self._own: dict[Network, Announcement] = {}
        self._out: list[Output] = []
        self._awaited = dict.fromkeys(awaited, now + DEFERRAL)
        self.converged = False
        self._adopt(speaker)
        self.tick(now)

    # -- what happens

    def configure(self, speaker: Speaker, now: float) -> None:
        """Become `speaker`, of which name, mode, AS and router id must be as they are.

        Only neighbours whose policy differs are judged again, only those whose export differs are sent anything.
        """
        old = self.speaker
        if (old.mode, old.asn, old.router_id) != (speaker.mode, speaker.asn, speaker.router_id):
            message = "a speaker cannot change its mode, AS or router id while it runs"
            raise InternalError(message)
        self._settle()
        self.speaker = speaker
        self._adopt(speaker)
        for peer in list(self.peers.values()):
            neighbor = self.neighbor_at(peer.address)
            if neighbor is None or neighbor.asn != peer.neighbor.asn:
                self.session_down(peer.address, now, graceful=False)
                self.rib.peer_down(peer, frozenset(), now)
                self.peers.pop(peer.address, None)
            elif neighbor != peer.neighbor:
                self._change(peer, neighbor)
        self._await(now)

    def session_up(self, address: Address, session: Established, now: float) -> bool:
        """Take note of an established session and tell it our table; False if the neighbour is not ours."""
        neighbor = self.neighbor_at(address)
        if neighbor is None:
            return False
        if address in self._sessions:
            self.session_down(address, now, graceful=True)
        self._settle()
        peer = self.peers.get(address)
        if peer is None:
            internal = neighbor.asn == self.speaker.asn
            peer = self.peers[address] = Peer(address, neighbor, ImportCheck(neighbor, self.speaker), internal)
        self._sessions[address] = session
        self._untold[address] = session.families
        self._recover(peer, session, now)
        self.spread.join(peer, treatment(neighbor, session, self.speaker))
        self._out += self.spread.table(peer, self.rib.destinations.values())
        if self.converged:
            self._out.append(EndOfRib(address, session.families))
        elif address in self._awaited and session.restart_time is None:
            self._awaited[address] = min(self._awaited[address], now + SETTLING)
        return True

    def session_down(self, address: Address, now: float, *, graceful: bool) -> None:
        """Take note of the end of a session; `graceful`: without NOTIFICATION, so the neighbour may be restarting."""
        session = self._sessions.pop(address, None)
        peer = self.peers.get(address)
        if session is None or peer is None:
            return
        self._settle()
        self.spread.leave(peer)
        helped = graceful and session.restart_time is not None and peer.neighbor.restart_time > 0
        kept = session.kept if helped else frozenset()
        self.rib.peer_down(peer, kept, now + (session.restart_time or 0))
        self._forget_idle(peer)

    def announce(self, address: Address, attributes: Attributes, prefixes: Iterable[Network]) -> None:
        """Take in what a neighbour announces."""
        if address in self._sessions:
            self.rib.announce(self.peers[address], attributes, prefixes)

    def withdraw(self, address: Address, prefixes: Iterable[Network]) -> None:
        """Take in what a neighbour withdraws."""
        if address in self._sessions:
            self.rib.withdraw(self.peers[address], prefixes)

    def malformed(self, address: Address, attributes: Attributes, prefixes: Iterable[Network]) -> None:
        """Take in what RFC 7606 treats as withdrawn: kept with its reason, used for nothing."""
        if address in self._sessions:
            self.rib.refuse(self.peers[address], attributes, prefixes, Reason.MALFORMED)

    def end_of_rib(self, address: Address, family: Family, now: float) -> None:
        """Take note that a neighbour has told its whole table of a family."""
        if address not in self._sessions:
            return
        peer = self.peers[address]
        self.rib.end_of_rib(peer, family)
        if not peer.stale:
            peer.stale_until = None
        self._untold[address] = self._untold[address] - {family}
        if not self._untold[address]:
            self._awaited.pop(address, None)
            self._await(now)

    def refresh(self, address: Address, family: Family) -> None:
        """Tell a neighbour our table again, as it asks (RFC 2918)."""
        if address in self._sessions:
            self._settle()
            self._out += self.spread.table(self.peers[address], self.rib.destinations.values(), family)

    def tick(self, now: float) -> None:
        """Let go of what is overdue."""
        for peer in list(self.peers.values()):
            if self.rib.expire(peer, now):
                self._forget_idle(peer)
        self._await(now)

    def deadline(self) -> float | None:
        """Return when `tick` has something to do next."""
        times = [peer.stale_until for peer in self.peers.values() if peer.stale_until is not None]
        return min([*times, *self._awaited.values()], default=None)

    def take(self) -> list[Output]:
        """Return everything there is to say since the last call, in order."""
        self._settle()
        out, self._out = self._out, []
        return out

    # -- what is asked

    def neighbor_at(self, address: Address) -> Neighbor | None:
        """Return whose address this is: a neighbour's own, or one of a range (the longest)."""
        fixed = self._fixed.get(address)
        return fixed or next((n for n in self._ranges if n.range is not None and address in n.range), None)

    def session(self, address: Address) -> Established | None:
        """Return what the session at an address agreed on, None if there is none."""
        return self._sessions.get(address)

    def established(self) -> tuple[Address, ...]:
        """Return the addresses of all sessions."""
        return tuple(self._sessions)

    # -- how

    def _adopt(self, speaker: Speaker) -> None:
        self._fixed = {n.address: n for n in speaker.neighbors if n.address is not None}
        ranges = [n for n in speaker.neighbors if n.range is not None and n.address is None]
        self._ranges = sorted(ranges, key=lambda n: n.range.prefixlen if n.range else 0, reverse=True)
        own = {announcement.prefix: announcement for announcement in speaker.announcements}
        for prefix in self._own.keys() - own.keys():
            self.rib.originate(prefix, None)
        for prefix, announcement in own.items():
            if self._own.get(prefix) != announcement:
                path = Path(None, originated(announcement), None, internal=False, standing=Standing.own())
                self.rib.originate(prefix, path)
        self._own = own

    def _change(self, peer: Peer, neighbor: Neighbor) -> None:
        judged = neighbor.imports != peer.neighbor.imports
        peer.neighbor = neighbor
        if judged:
            peer.check = ImportCheck(neighbor, self.speaker)
            self.rib.rejudge(peer)
        session = self._sessions.get(peer.address)
        if session is not None:
            # First what the new verdicts change, by the old export; then what the new export changes.
            self._settle()
            self._out += self.spread.move(
                peer, treatment(neighbor, session, self.speaker), self.rib.destinations.values()
            )

    def _recover(self, peer: Peer, session: Established, now: float) -> None:
        """RFC 4724 4.2: stale routes of families that the neighbour did not preserve go at once."""
        if peer.router_id != session.router_id:
            peer.router_id = session.router_id
            peer.paths.clear()
        for family in Family:
            if family not in session.preserved:
                self.rib.end_of_rib(peer, family)
        peer.stale_until = now + peer.neighbor.restart_time if peer.stale else None
        self._settle()

    def _settle(self) -> None:
        """Turn changed tables into messages and news."""
        changes = self.rib.take_changes()
        if not changes:
            return
        self._out += self.spread.changes(changes)
        for dest, before in changes:
            if dest.ranked[:1] != before[:1]:
                news = best(dest.prefix, dest.ranked)
                # Another path may say the same by the same neighbour: at another address, or stale before.
                if not before or news != best(dest.prefix, before):
                    self._out.append(news)

    def _await(self, now: float) -> None:
        """Forget the awaited whose time has come or who are not configured; converge when nobody is left."""
        if self.converged:
            return
        self._awaited = {
            address: until
            for address, until in self._awaited.items()
            if now < until and self.neighbor_at(address) is not None
        }
        if not self._awaited:
            self.converged = True
            self._settle()
            self._out.append(Converged())
            self._out += [EndOfRib(address, session.families) for address, session in self._sessions.items()]

    def _forget_idle(self, peer: Peer) -> None:
        if not peer.routes and peer.address not in self._sessions:
            self.peers.pop(peer.address, None)


def best(prefix: Network, ranked: tuple[Path, ...]) -> Best:
    """Say which of the paths is the best one."""
    if not ranked:
        return Best(prefix, None)
    source = ranked[0].source
    return Best(prefix, ranked[0].attributes, LOCAL if source is None else source.neighbor.name)


def originated(announcement: Announcement) -> Attributes:
    """Make the attributes of a route of ours; the unspecified next hop stands for each session's own address."""
    unspecified: Address = IPv4Address(0) if announcement.prefix.version == 4 else IPv6Address(0)  # noqa: PLR2004
    return Attributes(
        next_hop=announcement.next_hop or unspecified,
        med=announcement.med,
        communities=announcement.communities,
        large_communities=announcement.large_communities,
    )
