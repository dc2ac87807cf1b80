"""The route server before design 0008, as the walks of the new one speak to it: what both must agree on. Goes with it."""

from __future__ import annotations

from collections.abc import Iterable

from routing.bgp.server import Converged, EndOfRib, RouteServer
from routing.bgp.session import Established
from routing.bgp.spread import Send
from routing.bgp.values import Address, Attributes, Family, Network, Speaker
from routing.engines.engine import Best
from tests.support.speaking import Ears


class OldRouteServer:
    """The old server and what its neighbours hear."""

    def __init__(self, speaker: Speaker, now: float, awaited: Iterable[Address]) -> None:
        """Start without sessions."""
        self.server = RouteServer(speaker, now, awaited)
        self.ears = Ears()

    def listen(self, *, repeated: bool = False) -> None:
        """Let the neighbours hear what there is to say."""
        for output in self.server.take():
            if isinstance(output, Send):
                for address in output.addresses:
                    for prefix in output.prefixes:
                        if address in self.ears.tables:
                            self.ears.hear(address, output.attributes, prefix, repeated=repeated)
            elif isinstance(output, EndOfRib):
                self.ears.ended.setdefault(output.address, set()).update(output.families)
            elif isinstance(output, Converged):
                self.ears.converged += 1
            elif isinstance(output, Best):
                self._news(output)

    def _news(self, news: Best) -> None:
        if news.attributes is None:
            del self.ears.best[news.prefix]
        else:
            self.ears.best[news.prefix] = news.attributes, news.neighbor

    def up(self, address: Address, session: Established, now: float) -> None:
        """Bring a session up."""
        self.listen()
        self.ears.open(address)
        assert self.server.session_up(address, session, now)

    def down(self, address: Address, now: float, *, graceful: bool) -> None:
        """Bring a session down."""
        self.server.session_down(address, now, graceful=graceful)
        self.listen()
        self.ears.close(address)

    def announce(self, address: Address, attributes: Attributes, prefixes: Iterable[Network]) -> None:
        """Hear routes."""
        self.server.announce(address, attributes, prefixes)

    def malformed(self, address: Address, attributes: Attributes, prefixes: Iterable[Network]) -> None:
        """Hear routes that nobody can use."""
        self.server.malformed(address, attributes, prefixes)

    def withdraw(self, address: Address, prefixes: Iterable[Network]) -> None:
        """Hear that routes are gone."""
        self.server.withdraw(address, prefixes)

    def end_of_rib(self, address: Address, family: Family, now: float) -> None:
        """Hear that all is said."""
        self.server.end_of_rib(address, family, now)

    def waiting(self) -> bool:
        """Tell whether anything is over a limit: then the two may hold different routes."""
        return any(peer.waiting for peer in self.server.peers.values())

    def counts(self) -> dict[Address, tuple[int, int, int]]:
        """Return how many routes each neighbour has said, has accepted, was sent."""
        sent = self.server.spread.advertised
        return {
            address: (len(peer.routes), peer.accepted, sent.get(peer, 0)) for address, peer in self.server.peers.items()
        }
