"""What is shown of the process: sessions, paths and best paths, made from the tables while they go on changing.

Called by `answers`, a little at a time. Pure. What is true of one prefix of a label is true of all, so a view is made
once for all of them (`Shown`). A path that changes while a list is made may be missing from it, or be in it twice: a list that
is true at one moment would hold up everything else, or cost as much memory as the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from routing.bgp.attributes import decode
from routing.bgp.decision import why_best, why_not
from routing.bgp.nlri import pack, unpack
from routing.bgp.routeserver import LOCAL, Bests, taught_by
from routing.bgp.values import Address, Attributes, Family, Network
from routing.engines.engine import Best, Event, RouteView, Session, SessionState, SessionView

if TYPE_CHECKING:
    from routing.bgp.paths import Label, Path
    from routing.bgp.routeserver import RouteServer

#: What a watcher is told: best paths stay packed until they are written.
News: TypeAlias = Event | Bests


class Peering(Protocol):
    """Where the session at an address is, and why."""

    @property
    def state(self) -> SessionState:
        """The state of its foremost connection."""
        ...

    @property
    def detail(self) -> str:
        """What was wrong last."""
        ...


class Shown(NamedTuple):
    """The view of the first of some prefixes; the others differ from it in their prefix alone."""

    view: RouteView | Best
    family: Family
    nlri: bytes


def sessions(
    server: RouteServer, peerings: Mapping[Address, Peering], since: Mapping[Address, float], now: float
) -> Iterator[SessionView]:
    """Yield one view per configured neighbour, in their order, and per session of a range."""
    fixed = {neighbor.address: None for neighbor in server.speaker.neighbors if neighbor.address is not None}
    for address in (*fixed, *(address for address in tuple(peerings) if address not in fixed)):
        yield _session(server, address, peerings.get(address), since.get(address), now)


def _session(
    server: RouteServer, address: Address, peering: Peering | None, since: float | None, now: float
) -> SessionView:
    neighbor, peer, session = server.neighbor_at(address), server.peers.get(address), server.session(address)
    return SessionView(
        name=neighbor.name if neighbor else "",
        address=address,
        asn=neighbor.asn if neighbor else 0,
        state=peering.state if peering else SessionState.IDLE,
        families=tuple(family for family in Family if family in session.families) if session else (),
        uptime=None if since is None else max(0.0, now - since),
        received=peer.received if peer else 0,
        accepted=peer.accepted if peer else 0,
        advertised=server.audiences.advertised(peer) if peer else 0,
        detail=peering.detail if peering else "",
    )


def up(server: RouteServer, peerings: Mapping[Address, Peering]) -> Iterator[Session]:
    """Yield every session that is established."""
    for address, peering in tuple(peerings.items()):
        neighbor = server.neighbor_at(address)
        if neighbor is not None and peering.state is SessionState.ESTABLISHED:
            yield Session(neighbor.name, address, peering.state, peering.detail)


def bests(server: RouteServer) -> Iterator[Shown]:
    """Yield every best path."""
    return (best(news) for news in server.bests() if news.nlri)


def best(news: Bests) -> Shown:
    """Return the event of the first prefix."""
    prefix, path = _first(news.nlri, news.family), news.path
    event = Best(prefix, None) if path is None else Best(prefix, _attributes(path), taught_by(path))
    return Shown(event, news.family, news.nlri)


def routes(server: RouteServer, prefix: Network | None, neighbor: str | None) -> Iterator[Shown | None]:
    """Yield paths received, refused ones too, and originated; None where there is nothing to be shown."""
    for family, label, path in _one(server, prefix) if prefix is not None else _of(server, neighbor):
        if neighbor not in (None, taught_by(path)):
            yield None
            continue
        nlri = server.tables.of[family].of(label) if prefix is None else pack([prefix])
        yield Shown(_route(path, label.ranked, _first(nlri, family)), family, nlri) if nlri else None


def _one(server: RouteServer, prefix: Network) -> Iterator[tuple[Family, Label, Path]]:
    family = Family.of(prefix)
    label = server.tables.of[family].get(pack([prefix]))
    for path in () if label is None else label.paths:
        yield family, label or path, path


def _of(server: RouteServer, neighbor: str | None) -> Iterator[tuple[Family, Label, Path]]:
    """Yield the labels of all paths; the paths of a neighbour know theirs."""
    if neighbor in (None, LOCAL):
        for family, table in server.tables.of.items():
            for label, _ in table.labels():
                for path in label.paths:
                    yield family, label, path
    for peer in tuple(server.peers.values()) if neighbor is not None else ():
        for path in peer.all_paths() if peer.neighbor.name == neighbor else ():
            labels: tuple[Label, ...] = (path, *path.choices)
            yield from ((family, label, path) for label in labels for family in Family)


def _route(path: Path, ranked: tuple[Path, ...], prefix: Network) -> RouteView:
    return RouteView(
        prefix=prefix,
        neighbor=taught_by(path),
        address=None if path.source is None else path.source.address,
        attributes=_attributes(path),
        best=path in ranked[:1],
        reason=path.reason,
        stale=path.stale,
        why=_why(path, ranked),
    )


def _why(path: Path, ranked: tuple[Path, ...]) -> str:
    if path.reason is not None:
        return f"refused: {path.reason.name}"
    if path is not ranked[0]:
        return why_not(ranked[0], path)
    if len(ranked) == 1:
        # As `why_best` has it, but that would decode the path.
        return "originated here" if path.source is None else "only path"
    return why_best(ranked)


def _attributes(path: Path) -> Attributes:
    """Decode, and do not keep: all that a path can keep would outweigh the tables once somebody has looked at them."""
    return decode(path.octets) if path.octets else path.attributes


def _first(nlri: bytes, family: Family) -> Network:
    size = 1 + (nlri[0] + 7) // 8
    return unpack(nlri[:size], family)[0]
