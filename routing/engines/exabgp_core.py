"""The API process of ExaBGP without its pipes: lines in, commands and events out.

Called by `routing.engines.exabgp_child`. Pure: holds the `RouteServer`, knows which session is in which state and which
number ExaBGP gave it, and answers the daemon's questions. Time comes in as `now`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from routing.bgp.decision import why_best, why_not
from routing.bgp.rib import Destination, Path, Peer
from routing.bgp.server import LOCAL, Converged, EndOfRib, Output, RouteServer, best
from routing.bgp.spread import Send
from routing.bgp.values import Address, Attributes, Network, Speaker
from routing.engines import exabgp_codec as codec
from routing.engines import exabgp_messages as messages
from routing.engines.engine import Best, Event, RouteView, Session, SessionState, SessionView, Synced
from routing.engines.exabgp_config import session_families


@dataclass(slots=True)
class Link:
    """One session or the attempt at one: where its automaton is, and what is known of its peer so far."""

    state: SessionState = SessionState.IDLE
    detail: str = ""
    since: float | None = None
    number: int | None = None
    opened: messages.Opened | None = None


class Core:
    """One speaker: its tables, its sessions as ExaBGP reports them, its commands to ExaBGP."""

    def __init__(self, speaker: Speaker, now: float, awaited: Iterable[Address] = ()) -> None:
        """Start as the process starts: sessions that ExaBGP has already belong to an earlier life and begin anew."""
        self.server = RouteServer(speaker, now, awaited)
        self.links: dict[Address, Link] = {}
        self.commands: deque[str] = deque(["@reset", "@reload"])
        self.events: list[Event] = []
        self._reported: dict[Address, tuple[SessionState, str]] = {}

    # -- what happens

    def configure(self, speaker: Speaker, now: float) -> None:
        """Become `speaker`; the caller sees to it that ExaBGP reads its configuration again if that differs."""
        self.server.configure(speaker, now)
        for address in [address for address in self.links if self.server.neighbor_at(address) is None]:
            self._forget(address)
        self.settle()

    def receive(self, message: messages.Message, now: float) -> None:
        """Take in what ExaBGP says; `settle` works out what follows."""
        match message:
            case messages.Update():
                self._update(message)
            case messages.State():
                self._moved(message)
            case messages.Opened():
                self._link(message.address).opened = message
            case messages.Numbered():
                self._link(message.address).number = message.number
            case messages.Up():
                self._up(message, now)
            case messages.Down():
                self._down(message, now)
            case messages.EndOfTable():
                self.server.end_of_rib(message.address, message.family, now)
            case messages.Refresh():
                self.server.refresh(message.address, message.family)

    def settle(self) -> None:
        """Turn everything that happened into commands and events."""
        for output in self.server.take():
            self._say(output)
        for address, link in self.links.items():
            current = (link.state, link.detail)
            if self._reported.get(address) != current:
                self._reported[address] = current
                neighbor = self.server.neighbor_at(address)
                name = neighbor.name if neighbor is not None else ""
                self.events.append(Session(name, address, link.state, link.detail))

    def take_events(self) -> tuple[Event, ...]:
        """Return what the watchers are to be told."""
        events, self.events = tuple(self.events), []
        return events

    # -- what is asked

    def snapshot(self) -> tuple[Event, ...]:
        """Return what a new watcher is to be told first: who is up, every best path, and whether that is all."""
        up = tuple(
            Session(neighbor.name, address, link.state, link.detail)
            for address, link in self.links.items()
            if link.state is SessionState.ESTABLISHED and (neighbor := self.server.neighbor_at(address)) is not None
        )
        ranked = ((dest.prefix, dest.ranked) for dest in self.server.rib.destinations.values() if dest.ranked)
        bests = tuple(best(prefix, paths) for prefix, paths in ranked)
        return (*up, *bests, Synced()) if self.server.converged else (*up, *bests)

    def sessions(self, now: float) -> tuple[SessionView, ...]:
        """Return one view per configured neighbour and per session of a range."""
        fixed = [neighbor.address for neighbor in self.server.speaker.neighbors if neighbor.address is not None]
        dynamic = [address for address in self.links if address not in set(fixed)]
        return tuple(self._view(address, now) for address in (*fixed, *dynamic))

    def routes(self, prefix: Network | None, neighbor: str | None) -> tuple[RouteView, ...]:
        """Return paths received, refused ones too, and originated."""
        tables = self.server.rib.destinations
        found = [tables[prefix]] if prefix in tables else [] if prefix is not None else list(tables.values())
        peers = [p for p in self.server.peers.values() if neighbor is None or p.neighbor.name == neighbor]
        views = []
        for dest in found:
            if neighbor in (None, LOCAL):
                views += [_route(dest, path, None) for path in dest.ranked if path.source is None]
            views += [_route(dest, peer.routes[dest], peer) for peer in peers if dest in peer.routes]
        return tuple(views)

    # -- how

    def _forget(self, address: Address) -> bool:
        """Forget a link that is idle unless it is a configured neighbour's; tell whether it is forgotten."""
        neighbor = self.server.neighbor_at(address)
        if neighbor is not None and neighbor.address is not None:
            return False
        self.links.pop(address, None)
        self._reported.pop(address, None)
        return True

    def _link(self, address: Address) -> Link:
        return self.links.setdefault(address, Link())

    def _moved(self, message: messages.State) -> None:
        if message.state is SessionState.IDLE and self._forget(message.address):
            return
        link = self._link(message.address)
        # Established is what `Up` says: from then on the session has its number and its table.
        if message.state is not SessionState.ESTABLISHED:
            link.state = message.state

    def _up(self, message: messages.Up, now: float) -> None:
        link = self._link(message.address)
        neighbor = self.server.neighbor_at(message.address)
        if neighbor is None:
            return
        if link.opened is None:
            # It came up while this process started: what was agreed on is not known, so once more.
            self.commands.append(f"@reset {link.number}")
            return
        # What is left to say to the session before goes to that one's number, which is no more.
        self.settle()
        offered = session_families(neighbor)
        agreed = codec.established(neighbor, link.opened, message.local, offered)
        self.server.session_up(message.address, agreed, now)
        link.state, link.detail, link.since = SessionState.ESTABLISHED, "", now
        self.settle()

    def _down(self, message: messages.Down, now: float) -> None:
        link = self._link(message.address)
        self.settle()
        self.server.session_down(message.address, now, graceful=message.graceful)
        link.state, link.detail, link.since, link.number = SessionState.IDLE, message.reason, None, None
        self.settle()
        self._forget(message.address)

    def _update(self, message: messages.Update) -> None:
        if message.malformed:
            self.server.malformed(message.address, Attributes(next_hop=message.address), message.malformed)
        if message.withdrawn:
            self.server.withdraw(message.address, message.withdrawn)
        for attributes, prefixes in message.announced:
            self.server.announce(message.address, attributes, prefixes)

    def _say(self, output: Output) -> None:
        match output:
            case Best():
                self.events.append(output)
            case Converged():
                self.events.append(Synced())
            case EndOfRib():
                number = self._numbers([output.address])
                self.commands += [codec.end_of_rib(number[0], f) for f in output.families] if number else []
            case Send():
                numbers = self._numbers(output.addresses)
                if not numbers:
                    return
                if output.attributes is None:
                    self.commands += codec.withdraw(numbers, output.prefixes)
                else:
                    self.commands += codec.announce(numbers, output.attributes, output.prefixes)

    def _numbers(self, addresses: Iterable[Address]) -> list[int]:
        links = (self.links.get(address) for address in addresses)
        return [link.number for link in links if link is not None and link.number is not None]

    def _view(self, address: Address, now: float) -> SessionView:
        link = self.links.get(address, Link())
        neighbor = self.server.neighbor_at(address)
        peer = self.server.peers.get(address)
        session = self.server.session(address)
        return SessionView(
            name=neighbor.name if neighbor else "",
            address=address,
            asn=neighbor.asn if neighbor else 0,
            state=link.state,
            families=tuple(sorted(session.families, key=lambda family: family.value)) if session else (),
            uptime=None if link.since is None else max(0.0, now - link.since),
            received=len(peer.routes) if peer else 0,
            accepted=peer.accepted if peer else 0,
            advertised=self.server.spread.advertised.get(peer, 0) if peer else 0,
            detail=link.detail,
        )


def _route(dest: Destination, path: Path, peer: Peer | None) -> RouteView:
    winner = dest.ranked[0] if dest.ranked else None
    if path.reason is not None:
        why = f"refused: {path.reason.name}"
    elif winner is None or path is winner:
        why = why_best(dest.ranked)
    else:
        why = why_not(winner, path)
    return RouteView(
        prefix=dest.prefix,
        neighbor=LOCAL if peer is None else peer.neighbor.name,
        address=None if peer is None else peer.address,
        attributes=path.attributes,
        best=path is winner,
        reason=path.reason,
        stale=peer is not None and dest in peer.stale,
        why=why,
    )
