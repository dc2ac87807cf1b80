"""What gobgpd says about sessions and routes, put into the words of the engine contract. Pure.

Called by the GoBGP engine. gobgpd refuses routes without a reason, so `routing.bgp.policy` is asked for it: the policies
given to gobgpd say the same. Nor does it say why a path won: `routing.bgp.decision` knows the steps.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from routing.bgp.decision import Standing, rank, why_best, why_not
from routing.bgp.policy import ImportCheck
from routing.bgp.values import Address, Attributes, Neighbor, Network, Reason, Speaker
from routing.engines.engine import RouteView, SessionView
from routing.engines.gobgp_codec import PathView, PeerView

LOCAL: Final = "local"


def session_view(peer: PeerView, name: str, now: float) -> SessionView:
    """Return a session as the engine contract wants it; `now` is seconds since the epoch."""
    return SessionView(
        name=name,
        address=peer.address,
        asn=peer.asn,
        state=peer.state,
        families=peer.families,
        uptime=None if peer.up_since is None else max(0.0, now - peer.up_since),
        received=peer.received,
        accepted=peer.accepted,
        advertised=peer.advertised,
        detail=peer.detail,
    )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A path with what ranking needs."""

    view: RouteView
    standing: Standing


class Judge:
    """Turns what neighbours said into candidates, with the reason of those that are refused."""

    def __init__(self, speaker: Speaker, excess: Mapping[Address, frozenset[Network]]) -> None:
        """Prepare one check per neighbour; `excess` is what each announces above its limit."""
        self._speaker = speaker
        self._excess = excess
        self._checks = {neighbor.name: ImportCheck(neighbor, speaker) for neighbor in speaker.neighbors}

    def received(self, path: PathView, neighbor: Neighbor, peer: PeerView) -> Candidate | None:
        """Return what a neighbour said."""
        if path.attributes is None:
            return None
        check = self._checks[neighbor.name]
        reason = check.prefix(path.prefix) or check.attributes(path.attributes)
        if reason is None and path.prefix in self._excess.get(peer.address, ()):
            reason = Reason.MAX_PREFIXES
        if path.refused and reason is None:
            # Ours accepts what gobgpd refuses: its policies are not (yet) ours.
            reason = Reason.NO_POLICY
        standing = Standing.of(
            path.attributes,
            internal=neighbor.asn == self._speaker.asn,
            router_id=peer.router_id,
            address=peer.address,
        )
        view = RouteView(path.prefix, neighbor.name, peer.address, path.attributes, reason=reason, stale=path.stale)
        return Candidate(view, standing)

    @staticmethod
    def own(prefix: Network, attributes: Attributes) -> Candidate:
        """Return what we originate."""
        return Candidate(RouteView(prefix, LOCAL, None, attributes), Standing.own())


def ranked(candidates: Iterable[Candidate], chosen: Container[tuple[Network, Address | None]]) -> Iterator[RouteView]:
    """Yield every path of every prefix, the best first, the refused last, and say why each won or lost.

    `chosen` are the best paths that gobgpd names; for route-server clients it names none, and the decision says it.
    """
    by_prefix: dict[Network, list[Candidate]] = {}
    for candidate in candidates:
        by_prefix.setdefault(candidate.view.prefix, []).append(candidate)
    for prefix in sorted(by_prefix, key=lambda p: (p.version, int(p.network_address), p.prefixlen)):
        accepted = sorted(
            rank([item for item in by_prefix[prefix] if item.view.reason is None]),
            key=lambda item: (item.view.prefix, item.view.address) not in chosen,
        )
        for position, item in enumerate(accepted):
            why = why_not(accepted[0], item) if position else why_best(accepted)
            yield replace(item.view, best=position == 0, why=why)
        for item in by_prefix[prefix]:
            if item.view.reason is not None:
                yield item.view
