"""What one gobgpd must be, as values: the session parameters and the policies that a `Speaker` means. Pure.

Called by the GoBGP engine, which compares the digests of two such values to change only what differs;
`gobgp_messages` puts them into the words of gobgpd's API.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from appliance.model.errors import InternalError
from routing.bgp.values import Address, Family, Mode, Neighbor, Network, Speaker
from routing.engines.gobgp_names import key_of
from routing.engines.gobgp_policy import EXPORT, IMPORT, Excess, Policy, policies, statements


@dataclass(frozen=True, slots=True)
class Peer:
    """One session, or (`range`) the group that sessions from a prefix join; without what policies say.

    `key` names it in gobgpd: the address, or the group's name. `imports` and `exports` are names of policies. More
    prefixes than `bulwark` (0: any number) end the session: ten to a hundred times what may be accepted.
    """

    key: str
    asn: int
    address: Address | None
    range: Network | None
    local_address: Address | None
    families: tuple[Family, ...]
    passive: bool
    hold_time: int
    restart_time: int
    bulwark: int
    client: Literal["", "server", "reflector"]
    imports: str
    exports: str


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration of a gobgpd: `speaker` compiled, without what is above a limit (`excess`).

    `digests` has one entry per thing that can change on its own.
    """

    speaker: Speaker
    excess: Excess
    policies: tuple[Policy, ...]
    peers: tuple[Peer, ...]
    digests: Mapping[str, str]

    @property
    def route_server(self) -> bool:
        """Tell whether every neighbour is a client in a table of its own, and the global table is not used."""
        return self.speaker.mode is Mode.TRANSPARENT

    def taking_back(self, keys: Collection[str]) -> Config:
        """Return this with policies that withdraw from these neighbours what they may not have."""
        return replace(self, policies=policies(self.speaker, self.excess, keys))


@dataclass(frozen=True, slots=True)
class Changes:
    """What to do, in this order: remove, set the policies, add, let the others send or be sent their routes again."""

    remove: tuple[str, ...] = ()
    policies: bool = False
    add: tuple[Peer, ...] = ()
    reimport: tuple[str, ...] = ()
    reexport: tuple[str, ...] = ()


def compile_speaker(speaker: Speaker, excess: Excess) -> Config:
    """Return the configuration that makes gobgpd be `speaker`."""
    if speaker.mode is Mode.TRANSPARENT and speaker.announcements:
        # gobgpd keeps route-server clients in a table of their own that its own routes never reach (osrg/gobgp#1990).
        raise InternalError(f"{speaker.name}: a transparent speaker of gobgpd cannot announce")
    peers = tuple(_peer(neighbor, speaker) for neighbor in speaker.neighbors)
    if len({peer.key for peer in peers}) != len(peers):
        raise InternalError(f"{speaker.name}: two neighbours have one address or one name")
    made = policies(speaker, excess)
    digests = {
        "global": digest((speaker.mode, speaker.asn, speaker.router_id, speaker.listen, speaker.port)),
        "policies": digest(made),
    }
    for peer, neighbor in zip(peers, speaker.neighbors, strict=True):
        imports, exports = statements(neighbor, speaker, excess)
        digests[f"peer {peer.key}"] = digest(peer)
        digests[f"import {peer.key}"] = digest(imports)
        digests[f"export {peer.key}"] = digest(exports)
    return Config(speaker, excess, made, peers, digests)


def changes(known: Mapping[str, str], present: Iterable[str], wanted: Config) -> Changes:
    """Compare what gobgpd was made (`known` digests, peers and groups `present`) with what it must be.

    What has no digest was being changed when the daemon died: it is made anew.
    """
    here = frozenset(present)
    desired = {peer.key: peer for peer in wanted.peers}

    def differs(kind: str, key: str) -> bool:
        return known.get(f"{kind} {key}") != wanted.digests[f"{kind} {key}"]

    kept = [key for key in desired if key in here and not differs("peer", key)]
    return Changes(
        remove=tuple(sorted(here.difference(kept))),
        policies=known.get("policies") != wanted.digests["policies"],
        add=tuple(peer for key, peer in desired.items() if key not in kept),
        reimport=tuple(key for key in kept if differs("import", key)),
        reexport=tuple(key for key in kept if differs("export", key)),
    )


def digest(value: object) -> str:
    """Return a short digest of a value; equal values have equal digests in every process."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:24]


def _peer(neighbor: Neighbor, speaker: Speaker) -> Peer:
    if (neighbor.address is None) == (neighbor.range is None):
        raise InternalError(f"{speaker.name}: {neighbor.name} needs either an address or a range")
    key = key_of(neighbor)
    limit = neighbor.imports.max_prefixes
    route_server = speaker.mode is Mode.TRANSPARENT
    client: Literal["", "server", "reflector"] = ""
    if route_server:
        client = "server"
    elif speaker.mode is Mode.REFLECTOR and neighbor.asn == speaker.asn:
        client = "reflector"
    return Peer(
        key=key,
        asn=neighbor.asn,
        address=neighbor.address,
        range=neighbor.range,
        local_address=neighbor.local_address,
        families=neighbor.families,
        passive=neighbor.passive,
        hold_time=neighbor.hold_time,
        restart_time=neighbor.restart_time,
        bulwark=0 if limit is None else int(f"1{'0' * (len(str(limit)) + 1)}"),
        client=client,
        imports=f"{IMPORT} {key}" if route_server else "",
        exports=f"{EXPORT} {key}" if route_server else "",
    )
