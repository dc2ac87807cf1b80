"""What a gobgpd tells while it runs, as the events of an engine, in batches.

Called by the GoBGP engine, once per consumer and life of the process. gobgpd queues events without bound for a consumer
that does not read, so they are read at once and kept here, one per prefix: what waits is bounded by the table.

    gobgpd --stream--> _pump --put--> Inbox --take, all that waits--> follow --> consumer

After a restart the neighbours send their routes again. `Synced` makes the consumer forget what was not named, so it must
wait for them (`settle`); meanwhile best paths are given as they come. gobgpd shows an End-of-RIB in its list of peers
only, which may overtake the stream: when all are in, a second stream begins with a table that has everything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Hashable, Mapping
from contextlib import aclosing
from typing import Final

from routing.bgp.values import Address, Network
from routing.engines.engine import Best, Event, Session, SessionState, Synced
from routing.engines.gobgp_client import Client, Paths, PeersListed
from routing.engines.gobgp_codec import PathView, PeerView

#: Seconds after which a neighbour that does not say when its table is through has sent it, if nothing comes.
QUIET: Final = 5.0
#: How often they are looked at.
_LOOK: Final = 0.5

Name = Callable[[Address], str]
Settle = Callable[[], Awaitable[None]]


class Inbox:
    """Events that wait for the consumer: of several about one thing the last, in the order of their arrival."""

    def __init__(self) -> None:
        """Start empty and open."""
        self._events: dict[Hashable, Event] = {}
        self._changed = asyncio.Event()
        self._ended = False

    def put(self, event: Event) -> None:
        """Add an event."""
        key = _thing(event)
        self._events.pop(key, None)
        self._events[key] = event
        self._changed.set()

    def end(self) -> None:
        """Let `take` return nothing once everything was taken."""
        self._ended = True
        self._changed.set()

    async def take(self) -> tuple[Event, ...]:
        """Return all that waits, at least one event; nothing at the end."""
        while not self._events and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        events = tuple(self._events.values())
        self._events.clear()
        return events


def _thing(event: Event) -> Hashable:
    if isinstance(event, Best):
        return event.prefix
    if isinstance(event, Session):
        return (event.address, event.state)
    return type(event).__name__


async def follow(
    client: Client, name: Name, *, best: bool, settle: Settle | None
) -> AsyncGenerator[tuple[Event, ...], None]:
    """Yield batches of events until gobgpd is gone, which raises EngineError.

    `best` asks for the best paths of the global table; route-server clients have none there.
    """
    inbox = Inbox()
    reading = asyncio.create_task(_read(client, inbox, name, best=best, settle=settle), name="gobgp-watch")
    reading.add_done_callback(lambda _: inbox.end())
    try:
        while batch := await inbox.take():
            yield batch
        await reading
    finally:
        reading.cancel()
        await asyncio.wait([reading])


async def _read(client: Client, inbox: Inbox, name: Name, *, best: bool, settle: Settle | None) -> None:
    named: set[Network] = set()
    if settle is not None:
        early = asyncio.create_task(_pump(client, inbox, name, named, best=best, final=False), name="gobgp-early")
        try:
            await settle()
        finally:
            early.cancel()
            await asyncio.wait([early])
    await _pump(client, inbox, name, named, best=best, final=True)


async def _pump(client: Client, inbox: Inbox, name: Name, named: set[Network], *, best: bool, final: bool) -> None:
    """Put one stream's events into the inbox; the final one says `Synced` when the table it begins with is through.

    `named` are the prefixes that the consumer has a best path of, told by an earlier stream.
    """
    initial = True
    forgotten = set(named)
    async with aclosing(client.watch(best=best)) as events:
        async for event in events:
            if isinstance(event, PeerView):
                inbox.put(Session(name(event.address), event.address, event.state, event.detail))
            elif isinstance(event, Paths):
                for view in event.paths:
                    _put(inbox, name, view)
                if initial:
                    forgotten.difference_update(view.prefix for view in event.paths)
                if not final:
                    named.update(view.prefix for view in event.paths)
            if initial and final and (isinstance(event, PeersListed) if not best else _whole(event)):
                for prefix in forgotten:
                    inbox.put(Best(prefix, None))
                inbox.put(Synced())
                initial = False


def _whole(event: object) -> bool:
    return isinstance(event, Paths) and event.whole


def _put(inbox: Inbox, name: Name, view: PathView) -> None:
    who = "local" if view.neighbor is None else name(view.neighbor)
    inbox.put(Best(view.prefix, view.attributes, who))


async def settle(client: Client, awaited: Collection[Address], longest: float) -> None:
    """Return when the neighbours have sent their tables, or when they have had time enough."""
    deadline = time.monotonic() + longest
    before: dict[Address, PeerView] = {}
    while time.monotonic() < deadline:
        peers = {peer.address: peer for peer in await client.peers()}
        if settled(awaited, peers, before, time.time()):
            return
        before = peers
        await asyncio.sleep(_LOOK)


def settled(
    awaited: Collection[Address],
    peers: Mapping[Address, PeerView],
    before: Mapping[Address, PeerView],
    now: float,
) -> bool:
    """Tell whether every awaited neighbour has sent its table, `before` being an earlier look.

    It says so by End-of-RIB; one that does not promise to must have been up for a while and said nothing new.
    """

    def complete(address: Address) -> bool:
        peer, earlier = peers.get(address), before.get(address)
        if peer is None:
            return True
        if peer.state is not SessionState.ESTABLISHED:
            return False
        silent = set(peer.families) - peer.complete
        if silent & peer.promised:
            return False
        quiet = earlier is not None and earlier.up_since == peer.up_since and earlier.received == peer.received
        return not silent or (quiet and peer.up_since is not None and now - peer.up_since >= QUIET)

    return all(map(complete, awaited))
