"""Which routes of a neighbour are above its limit (`max_prefixes`): found by looking, refused by policy.

Called by the GoBGP engine every second. gobgpd itself can only end a session that says too much; that it does far above
the limit. In between, what is too much is put into the neighbour's import policy prefix by prefix. Who was there first
stays: what gobgpd refuses although it is acceptable was above the limit before, also when an earlier daemon found it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from routing.bgp.policy import ImportCheck
from routing.bgp.values import Address, Network, Speaker
from routing.engines.gobgp_client import Client
from routing.engines.gobgp_codec import PathView, PeerView
from routing.engines.gobgp_names import Names


@dataclass(frozen=True, slots=True)
class _Look:
    """What must have changed before a neighbour is looked at again."""

    limit: int
    up_since: float | None
    updates: int


def above(paths: Iterable[PathView], limit: int) -> frozenset[Network]:
    """Return the prefixes of acceptable paths that are too many: those that were before, then the latest."""
    order = sorted(paths, key=lambda path: (path.refused, path.age, str(path.prefix)))
    return frozenset(path.prefix for path in order[limit:])


class Limits:
    """What is above the limits, by the neighbour's address."""

    def __init__(self) -> None:
        """Know nothing."""
        self.excess: dict[Address, frozenset[Network]] = {}
        self._looks: dict[Address, _Look] = {}

    def forget(self) -> None:
        """Begin anew with another gobgpd."""
        self.excess.clear()
        self._looks.clear()

    async def look(self, client: Client, speaker: Speaker) -> bool:
        """Look at neighbours that said something since the last time; tell whether there is a difference."""
        limits = {n.name: n.imports.max_prefixes for n in speaker.neighbors if n.imports.max_prefixes is not None}
        if not limits and not self.excess:
            return False
        names = Names(speaker.neighbors)
        before = dict(self.excess)
        peers = {peer.address: peer for peer in await client.peers()}
        for address, peer in peers.items():
            neighbor = names.neighbor(address)
            limit = None if neighbor is None else limits.get(neighbor.name)
            if neighbor is None or limit is None:
                self.excess.pop(address, None)
                continue
            look = _Look(limit, peer.up_since, peer.updates)
            if self._looks.get(address) != look:
                await self._judge(client, peer, ImportCheck(neighbor, speaker), limit)
                self._looks[address] = look
        for address in self.excess.keys() - peers.keys():
            del self.excess[address]
        return before != self.excess

    async def _judge(self, client: Client, peer: PeerView, check: ImportCheck, limit: int) -> None:
        found: frozenset[Network] = frozenset()
        if peer.received > limit:
            paths = [path for family in peer.families async for path in client.received(peer.address, family)]
            found = above((path for path in paths if _acceptable(check, path)), limit)
        if found:
            self.excess[peer.address] = found
        else:
            self.excess.pop(peer.address, None)


def _acceptable(check: ImportCheck, path: PathView) -> bool:
    if path.attributes is None:
        return False
    return (check.prefix(path.prefix) or check.attributes(path.attributes)) is None
