"""The API process of ExaBGP without its pipes: lines in, commands and events out.

Called by `routing.engines.exabgp_child`. Pure: holds the `RouteServer` and knows which session is in which state and which
number ExaBGP gave it; `answers` shows it to the daemon. Time comes in as `now`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from routing.bgp.attributes import encode
from routing.bgp.audiences import Send
from routing.bgp.peers import Peer
from routing.bgp.routeserver import Bests, Converged, EndOfRib, Output, RouteServer
from routing.bgp.session import Established
from routing.bgp.update import Format
from routing.bgp.values import Address, Family, Neighbor, Speaker
from routing.engines import exabgp_codec as codec
from routing.engines import exabgp_messages as messages
from routing.engines.engine import Session, SessionState, Synced
from routing.engines.exabgp_config import session_families
from routing.engines.views import News

#: It is ExaBGP who writes the messages, and cuts them as each session wants it.
_LIMIT: Final = 65535


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
        self.peerings: dict[Address, Link] = {}
        self.commands: deque[str] = deque(["@reset", "@reload"])
        self.events: list[News] = []
        self._reported: dict[Address, tuple[SessionState, str]] = {}
        self._numbers: dict[Peer, int] = {}

    # -- what happens

    def configure(self, speaker: Speaker, now: float) -> None:
        """Become `speaker`; the caller sees to it that ExaBGP reads its configuration again if that differs."""
        for _ in self.server.configure(speaker, now):
            # At once: keepalives are ExaBGP's.
            pass
        for address in [address for address in self.peerings if self.server.neighbor_at(address) is None]:
            self._forget(address)
        self.settle()
        self._numbers = {peer: number for peer, number in self._numbers.items() if self.server.is_up(peer)}

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
                self._end_of_table(message, now)
            case messages.Refresh():
                self.server.refresh(message.address, message.family)

    def settle(self) -> None:
        """Turn everything that happened into commands and events."""
        for output in self.server.take():
            self._say(output)
        for address, link in self.peerings.items():
            current = (link.state, link.detail)
            if self._reported.get(address) != current:
                self._reported[address] = current
                neighbor = self.server.neighbor_at(address)
                name = neighbor.name if neighbor is not None else ""
                self.events.append(Session(name, address, link.state, link.detail))

    def watch(self, *, on: bool) -> None:
        """Make news of best paths, or not."""
        self.server.watched = on

    def take_events(self) -> tuple[News, ...]:
        """Return what the watchers are to be told."""
        events, self.events = tuple(self.events), []
        return events

    @property
    def since(self) -> dict[Address, float]:
        """When each session came up."""
        return {address: link.since for address, link in self.peerings.items() if link.since is not None}

    # -- how

    def _forget(self, address: Address) -> bool:
        """Forget a link that is idle unless it is a configured neighbour's; tell whether it is forgotten."""
        neighbor = self.server.neighbor_at(address)
        if neighbor is not None and neighbor.address is not None:
            return False
        self.peerings.pop(address, None)
        self._reported.pop(address, None)
        return True

    def _link(self, address: Address) -> Link:
        return self.peerings.setdefault(address, Link())

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
        if link.opened is None or link.number is None:
            # It came up while this process started: what was agreed on is not known, so once more.
            self.commands.append(f"@reset {link.number}")
            return
        # What is left to say to the session before goes to that one's number, which is no more.
        self.settle()
        agreed = codec.established(neighbor, link.opened, message.local, session_families(neighbor))
        self.server.session_up(message.address, agreed, self._format(neighbor, agreed), now)
        self._numbers[self.server.peers[message.address]] = link.number
        link.state, link.detail, link.since = SessionState.ESTABLISHED, "", now
        self.settle()

    def _format(self, neighbor: Neighbor, agreed: Established) -> Format:
        internal = neighbor.asn == self.server.speaker.asn
        return Format(agreed.families, internal, extended_next_hop=agreed.extended_next_hop, limit=_LIMIT)

    def _down(self, message: messages.Down, now: float) -> None:
        link = self._link(message.address)
        self.settle()
        peer = self.server.peers.get(message.address)
        if peer is not None:
            self._numbers.pop(peer, None)
        self.server.session_down(message.address, now, graceful=message.graceful)
        link.state, link.detail, link.since, link.number = SessionState.IDLE, message.reason, None, None
        self.settle()
        self._forget(message.address)

    def _update(self, message: messages.Update) -> None:
        session = self.server.session(message.address)
        if session is None:
            return
        peer, tables = self.server.peers[message.address], self.server.tables
        for family, nlri in message.malformed:
            tables.refuse(peer, family, nlri)
        for family, nlri in message.withdrawn:
            tables.withdraw(peer, family, nlri)
        for family, attributes, nlri in message.announced:
            # ExaBGP negotiates IPv6 beside IPv4 prefixes with IPv6 next hops, whether it is wanted or not.
            if family in session.families:
                octets = encode(codec.imported(attributes, internal=peer.internal), family)
                tables.announce(peer, family, peer.path(octets, tables.ours), nlri)

    def _end_of_table(self, message: messages.EndOfTable, now: float) -> None:
        if self.server.session(message.address) is not None:
            self.server.end_of_rib(self.server.peers[message.address], message.family, now)

    def _say(self, output: Output) -> None:
        match output:
            case list():
                self._tell(output)
            case Bests():
                self.events.append(output)
            case Converged():
                self.events.append(Synced())
            case EndOfRib():
                for number in self._of((self.server.peers[output.address],)):
                    self.commands += [codec.end_of_rib(number, family) for family in output.families]

    def _tell(self, sends: list[Send]) -> None:
        """Tell the same to all at once: the order of a list is free."""
        told: dict[tuple[Family, bytes | None, bytes], list[int]] = {}
        for send in sends:
            told.setdefault((send.family, send.octets, send.nlri), []).extend(self._of(send.to, send.but))
        for (family, octets, nlri), numbers in told.items():
            if octets is None:
                self.commands += codec.withdraw(numbers, family, nlri)
            else:
                self.commands += codec.announce(numbers, family, octets, nlri)

    def _of(self, peers: Iterable[Peer], but: tuple[Peer, ...] = ()) -> list[int]:
        """Return the numbers of sessions."""
        return [number for peer in peers if (number := self._numbers.get(peer)) is not None and peer not in but]
