"""Ask a gobgpd for its sessions and routes.

Called by the GoBGP engine; `gobgp_views` makes of the answers what the engine contract wants.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from appliance.model.errors import EngineError
from routing.bgp.values import Address, Family, Mode, Network, Speaker
from routing.engines.engine import RouteView, SessionState, SessionView
from routing.engines.gobgp_client import Client
from routing.engines.gobgp_codec import PeerView
from routing.engines.gobgp_names import Names
from routing.engines.gobgp_policy import Excess
from routing.engines.gobgp_views import Candidate, Judge, ranked, session_view

#: Policy runs that one list of sessions may cost; gobgpd does nothing else meanwhile. Above, it counts before policy.
_COUNTED: Final = 50_000


async def list_sessions(client: Client, speaker: Speaker, now: float) -> tuple[SessionView, ...]:
    """Return one view per session; counts behind a policy are exact while tables are small."""
    names = Names(speaker.neighbors)
    peers = await client.peers()
    up = sum(peer.state is SessionState.ESTABLISHED for peer in peers)
    if sum(peer.received for peer in peers) * (up + 1) < _COUNTED:
        peers = [await _counted(client, peer) for peer in await client.peers(advertised=True)]
    views = (session_view(peer, names.name(peer.address), now) for peer in peers)
    return tuple(sorted(views, key=lambda view: (view.name, view.address.version, int(view.address))))


async def _counted(client: Client, peer: PeerView) -> PeerView:
    """Take away what the policy refuses: gobgpd counts as accepted whatever does not loop."""
    if not peer.accepted:
        return peer
    try:
        refused = sum([await client.refused(peer.address, family) for family in peer.families])
    except EngineError:  # a dynamic neighbour that left meanwhile; if gobgpd did, the next question says so
        return peer
    return replace(peer, accepted=max(0, peer.accepted - refused))


async def list_routes(
    client: Client, speaker: Speaker, excess: Excess, prefix: Network | None
) -> tuple[RouteView, ...]:
    """Return every path that was received or originated, of one prefix or of all."""
    families = tuple(Family) if prefix is None else (Family.of(prefix),)
    judge = Judge(speaker, excess)
    candidates: list[Candidate] = []
    chosen: set[tuple[Network, Address | None]] = set()
    if speaker.mode is not Mode.TRANSPARENT:
        for family in families:
            async for path in client.table(family, prefix):
                if path.best:
                    chosen.add((path.prefix, path.neighbor))
                if path.neighbor is None and path.attributes is not None:
                    candidates.append(judge.own(path.prefix, path.attributes))
    candidates += await _received(client, judge, speaker, families, prefix)
    return tuple(ranked(candidates, chosen))


async def _received(
    client: Client, judge: Judge, speaker: Speaker, families: Iterable[Family], prefix: Network | None
) -> list[Candidate]:
    names = Names(speaker.neighbors)
    candidates: list[Candidate] = []
    for peer in await client.peers():
        neighbor = names.neighbor(peer.address)
        if neighbor is None:
            continue
        for family in families:
            if family not in peer.families:
                continue
            try:
                async for path in client.received(peer.address, family, prefix):
                    candidates += filter(None, [judge.received(path, neighbor, peer)])
            except EngineError:
                if peer.group:  # a dynamic neighbour that left meanwhile
                    continue
                raise
    return candidates
