"""One BGP speaker without its sessions: UPDATEs of neighbours go in, what to send and which paths are best come out.

Called by an engine's process, which owns sessions. Pure: `now` in seconds comes in, `deadline` says when `tick` wants to be
called. Messages only change the tables; `take` works out the consequences of all of them at once, so a burst costs what its
net effect costs. After a restart `awaited` are the neighbours that may hold routes of ours as stale (RFC 4724 4.1): until
they have told us everything, or for `DEFERRAL` seconds, nobody hears End-of-RIB from us.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, NamedTuple

from appliance.model.errors import InternalError
from routing.bgp.attributes import encode
from routing.bgp.audiences import Audiences, Send
from routing.bgp.export import Exporter
from routing.bgp.nlri import pack
from routing.bgp.paths import Path
from routing.bgp.peers import Peer
from routing.bgp.session import Established, treatment
from routing.bgp.tables import Change, Tables
from routing.bgp.values import Address, Announcement, Attributes, Family, Neighbor, Network, Speaker

if TYPE_CHECKING:
    from routing.bgp.update import Format

DEFERRAL = 60.0
#: A neighbour without graceful restart says no End-of-RIB; it has told its table a moment after it came up.
SETTLING = 3.0
LOCAL = "local"


class EndOfRib(NamedTuple):
    """Say End-of-RIB to a neighbour."""

    address: Address
    families: frozenset[Family]


@dataclass(frozen=True, slots=True)
class Converged:
    """After a restart: every neighbour that was there before has told its routes, or its time is over."""


class Bests(NamedTuple):
    """The best path of these prefixes is now `path` (None: there is none)."""

    family: Family
    nlri: bytes
    path: Path | None


#: Sends of one list change each prefix once at most, so their order is free; the lists are in order.
Output = list[Send] | Bests | EndOfRib | Converged


class RouteServer:
    """A speaker and its tables. `watched`: whether anybody wants to know the best paths."""

    def __init__(self, speaker: Speaker, now: float, awaited: Iterable[Address] = ()) -> None:
        """Start without sessions; `awaited` are the neighbours that were up before a restart."""
        self.speaker = speaker
        self.peers: dict[Address, Peer] = {}
        self.tables = Tables(self.peers)
        self.audiences = Audiences(Exporter(speaker), self.tables)
        self.watched = False
        self.converged = False
        self._sessions: dict[Address, Established] = {}
        self._joining: dict[Address, None] = {}
        self._moving: dict[Peer, None] = {}
        self._late: dict[Address, frozenset[Family]] = {}
        self._asking: dict[Address, dict[Family, None]] = {}
        self._untold: dict[Address, frozenset[Family]] = {}
        self._fixed: dict[Address, Neighbor] = {}
        self._ranges: list[Neighbor] = []
        self._own: dict[Network, Announcement] = {}
        self._out: list[Output] = []
        self._awaited = dict.fromkeys(awaited, now + DEFERRAL)
        self._adopt(speaker)
        self.tick(now)

    # -- what happens

    def configure(self, speaker: Speaker, now: float) -> Iterator[None]:
        """Become `speaker`, of which name, mode, AS and router id must be as they are: a step for each neighbour.

        Only neighbours whose policy differs are judged again, only those whose export differs are sent anything.
        Between two steps anything else may happen; new sessions are of the new speaker at once.
        """
        old = self.speaker
        if (old.mode, old.asn, old.router_id) != (speaker.mode, speaker.asn, speaker.router_id):
            message = "a speaker cannot change its mode, AS or router id while it runs"
            raise InternalError(message)
        self._settle()
        self.speaker = speaker
        self._adopt(speaker)
        for address in list(self.peers):
            if self._follow(address, now):
                yield
        # First what the new verdicts change, by the old export; then what the new export changes, for all alike at once.
        self._settle()
        self._move(tuple(self._moving))
        self._name()
        self._await(now)

    def session_up(self, address: Address, session: Established, format_: Format, now: float) -> bool:
        """Take note of an established session, which will be told our table; False if the neighbour is not ours."""
        neighbor = self.neighbor_at(address)
        if neighbor is None:
            return False
        # A change of the speaker may not have come to this neighbour yet.
        self._follow(address, now)
        if address in self._sessions:
            self.session_down(address, now, graceful=True)
        peer = self.peers.get(address)
        if peer is None:
            peer = self.peers[address] = Peer(address, neighbor, self.speaker)
        peer.format = format_
        self._sessions[address] = session
        self._untold[address] = session.families
        self._recover(peer, session, now)
        self._joining[address] = None
        if not self.converged and address in self._awaited and session.restart_time is None:
            self._awaited[address] = min(self._awaited[address], now + SETTLING)
        return True

    def session_down(self, address: Address, now: float, *, graceful: bool) -> None:
        """Take note of the end of a session; `graceful`: the neighbour may be restarting (RFC 4724 4.2, RFC 8538)."""
        session = self._sessions.pop(address, None)
        self._untold.pop(address, None)
        self._late.pop(address, None)
        self._asking.pop(address, None)
        peer = self.peers.get(address)
        if session is None or peer is None:
            return
        self._settle()
        self._moving.pop(peer, None)
        self.audiences.leave(peer)
        helped = graceful and session.restart_time is not None and peer.neighbor.restart_time > 0
        kept = session.kept if helped else frozenset()
        self.tables.down(peer, kept, now + (session.restart_time or 0))
        self._forget_idle(peer)

    def end_of_rib(self, peer: Peer, family: Family, now: float) -> None:
        """Take note that a neighbour has told its whole table of a family."""
        self.tables.end_of_rib(peer, family)
        untold = self._untold.get(peer.address)
        if untold is None:
            return
        self._untold[peer.address] = untold - {family}
        if not self._untold[peer.address] and not self.converged:
            self._awaited.pop(peer.address, None)
            self._await(now)

    def refresh(self, address: Address, family: Family) -> None:
        """Tell a neighbour our table again, as it asks (RFC 2918): once, however often it asks before it is told."""
        if address in self._sessions and address not in self._joining:
            self._asking.setdefault(address, {})[family] = None

    def fall_behind(self, address: Address) -> None:
        """Send a neighbour nothing more until `catch_up`: it does not read."""
        if address in self._sessions:
            self._settle()
            self.audiences.fall_behind(self.peers[address])

    def catch_up(self, address: Address) -> None:
        """Send a neighbour what it has missed, net, and then what had to wait for that."""
        if address not in self._sessions:
            return
        self._settle()
        peer = self.peers[address]
        self._say(self.audiences.catch_up(peer))
        if peer in self._moving:
            self._move((peer,))
        self._end(address, self._late.pop(address, frozenset()))

    def tick(self, now: float) -> None:
        """Let go of what is overdue."""
        for peer in list(self.peers.values()):
            if peer.stale_until is not None and self.tables.expire(peer, now):
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

    def is_up(self, peer: Peer) -> bool:
        """Tell whether this is who is up at its address: another one may be by now, or nobody."""
        return peer.address in self._sessions and self.peers.get(peer.address) is peer

    def established(self) -> tuple[Address, ...]:
        """Return the addresses of all sessions."""
        return tuple(self._sessions)

    def bests(self) -> Iterator[Bests]:
        """Yield every best path."""
        for family, table in self.tables.of.items():
            for label, _ in table.labels():
                if label.ranked:
                    yield Bests(family, table.of(label), label.ranked[0])

    # -- how

    def _adopt(self, speaker: Speaker) -> None:
        self._fixed = {n.address: n for n in speaker.neighbors if n.address is not None}
        ranges = [n for n in speaker.neighbors if n.range is not None and n.address is None]
        self._ranges = sorted(ranges, key=lambda n: n.range.prefixlen if n.range else 0, reverse=True)
        self._name()
        own = {announcement.prefix: announcement for announcement in speaker.announcements}
        for prefix in self._own.keys() - own.keys():
            self.tables.originate(Family.of(prefix), pack([prefix]), None)
        for prefix, announcement in own.items():
            if self._own.get(prefix) != announcement:
                self.tables.originate(Family.of(prefix), pack([prefix]), originated(announcement))
        self._own = own

    def _name(self) -> None:
        """Tell the tables all AS numbers of neighbours, those included that have yet to learn that they are none."""
        neighbors = (*self.speaker.neighbors, *(peer.neighbor for peer in self.peers.values()))
        self.tables.name(frozenset(n.asn for n in neighbors if n.asn != self.speaker.asn))

    def _follow(self, address: Address, now: float) -> bool:
        """Let one neighbour be what it is now; tell whether that was any work."""
        peer = self.peers.get(address)
        neighbor = self.neighbor_at(address)
        if peer is None or neighbor is peer.neighbor:
            return False
        if neighbor is None or neighbor.asn != peer.neighbor.asn:
            self.session_down(address, now, graceful=False)
            self.tables.down(peer, frozenset(), now)
            self._forget(address)
            return True
        if neighbor == peer.neighbor:
            return False
        if (neighbor.imports, neighbor.client) != (peer.neighbor.imports, peer.neighbor.client):
            self.tables.follow(peer, neighbor, self.speaker)
        peer.neighbor = neighbor
        self._settle()
        self._moving[peer] = None
        return True

    def _move(self, moving: Iterable[Peer]) -> None:
        """Tell neighbours what their new exports change; who is behind is told when it catches up."""
        ready = [peer for peer in moving if not self.audiences.is_behind(peer)]
        for peer in ready:
            del self._moving[peer]
        up = [(peer, self._sessions[peer.address]) for peer in ready if self.is_up(peer)]
        self._say(self.audiences.move((peer, treatment(peer.neighbor, session, self.speaker)) for peer, session in up))

    def _say(self, sends: Iterable[Send]) -> None:
        said = list(sends)
        if said:
            self._out.append(said)

    def _recover(self, peer: Peer, session: Established, now: float) -> None:
        """RFC 4724 4.2: stale routes of families that the neighbour did not preserve go at once."""
        if peer.router_id != session.router_id:
            peer.router_id = session.router_id
            self.tables.reweigh(peer)
        for family in Family:
            if family not in session.preserved:
                self.tables.end_of_rib(peer, family)
        if peer.stale_until is not None:
            peer.stale_until = now + peer.neighbor.restart_time

    def _settle(self) -> None:
        """Turn changed tables into messages and news, then tell newcomers everything."""
        for family, changes in self.tables.changes():
            self._say(self.audiences.changes(family, changes))
            if self.watched:
                self._out += [news for change in changes if (news := best(family, change)) is not None]
        if self._joining:
            self._join()
        if self._asking:
            self._answer()

    def _join(self) -> None:
        joining, self._joining = self._joining, {}
        up = [(address, self._sessions[address]) for address in joining if address in self._sessions]
        some = [(self.peers[address], session) for address, session in up]
        self._say(
            self.audiences.join(
                (peer, treatment(peer.neighbor, session, self.speaker), peer.format)
                for peer, session in some
                if peer.format is not None
            )
        )
        if self.converged:
            for address, session in up:
                self._end(address, session.families)

    def _end(self, address: Address, families: frozenset[Family]) -> None:
        """Say End-of-RIB when everything else is said: to one that is behind, later."""
        if self.audiences.is_behind(self.peers[address]):
            self._late[address] = families
        elif families:
            self._out.append(EndOfRib(address, families))

    def _answer(self) -> None:
        ready = [address for address in self._asking if not self.audiences.is_behind(self.peers[address])]
        for address in ready:
            for family in self._asking.pop(address):
                self._say(self.audiences.table(self.peers[address], family))

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
            self._settle()
            self.converged = True
            self._out.append(Converged())
            for address, session in self._sessions.items():
                self._end(address, session.families)

    def _forget_idle(self, peer: Peer) -> None:
        if not peer.received and peer.address not in self._sessions:
            self._forget(peer.address)

    def _forget(self, address: Address) -> None:
        """Let go of a neighbour. It and its paths know one another: that is taken back, for nothing else would free them."""
        peer = self.peers.pop(address, None)
        if peer is not None:
            peer.forget({})


def best(family: Family, change: Change) -> Bests | None:
    """Say which path is the best now, if another one was, or the same one says something else."""
    before, after, nlri, _ = change
    old = before.ranked[:1] if before is not None else ()
    new = after.ranked[:1] if after is not None else ()
    if [(path.octets, taught_by(path)) for path in old] == [(path.octets, taught_by(path)) for path in new]:
        return None
    return Bests(family, nlri, new[0] if new else None)


def taught_by(path: Path) -> str:
    """Return the name of the neighbour that taught a path."""
    return LOCAL if path.source is None else path.source.neighbor.name


def originated(announcement: Announcement) -> Path:
    """Make the path of a route of ours; the unspecified next hop stands for each session's own address."""
    unspecified: Address = IPv4Address(0) if announcement.prefix.version == 4 else IPv6Address(0)  # noqa: PLR2004
    attributes = Attributes(
        next_hop=announcement.next_hop or unspecified,
        med=announcement.med,
        communities=announcement.communities,
        large_communities=announcement.large_communities,
    )
    return Path(None, encode(attributes, Family.of(announcement.prefix)), attributes.next_hop.packed)
