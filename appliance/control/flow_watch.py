"""Follows the flow records of namespaces as they come and go, and keeps an index of them (design 0005).

One task a namespace reads the kernel's events. A table is read once when a task begins to listen, and again when the
kernel had to drop events (ENOBUFS): that namespace and zone only, while later events go on. Until such a reading is
done the index is not `whole`: what it holds is true, but something may be missing.

The kernel tells the end of a record only if it was told its beginning, or if net.netfilter.nf_conntrack_events is 1 in
the namespace: so that is what it must be, or records from before a restart would never end here.
Called by `appliance.control.daemon`; asked by `appliance.control.reconciliation`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, NamedTuple, cast

import structlog

from appliance.control.tasks import Tasks
from appliance.kernel.conntrack import Conntrack, CtEvent
from appliance.kernel.conntrack_codec import CtEntry, flow_of
from appliance.model.errors import KernelError
from appliance.model.facts import FlowKey, Namespace, Network
from services.flows.index import FlowIndex, pack

log = structlog.get_logger()

#: Events, or records of a dump, that are handled before others get their turn.
AT_ONCE: Final = 256
#: Seconds between two readings of one table at least; and a pause is at least so many times what the reading took.
LEAST_PAUSE, SHARE = 0.2, 10
#: Seconds between two attempts to listen in a namespace that is not there.
PATIENCE: Final = 0.5

#: Is told the namespace and the original direction of a flow that ended; more than once if events were lost.
Ended = Callable[[Namespace, FlowKey], None]


class Scope(NamedTuple):
    """What of a namespace is followed: records of a zone (all if None), guests in `inside`."""

    zone: int | None = None
    inside: tuple[Network, ...] = ()


@dataclass(slots=True, eq=False)
class _Followed:
    """One namespace."""

    scope: Scope
    index: FlowIndex
    whole: bool = False
    listening: bool = False
    #: Events were lost since the last reading began.
    again: bool = False
    #: Flows that events told about since a reading began: of those the events know better.
    told: set[bytes] = field(default_factory=set)


class FlowWatch:
    """The flows of the namespaces that are watched."""

    def __init__(self, conntrack: Conntrack, tasks: Tasks) -> None:
        """Follow nothing yet."""
        self._conntrack, self._tasks = conntrack, tasks
        self._followed: dict[Namespace, _Followed] = {}
        self._ended: list[Ended] = []
        self._reads: list[Callable[[Namespace], None]] = []

    def on_ended(self, call: Ended) -> None:
        """Have `call` told of every flow that ended, whatever its zone."""
        self._ended.append(call)

    def on_read(self, call: Callable[[Namespace], None]) -> None:
        """Have `call` told of every namespace whose table was read: what ended until then was told."""
        self._reads.append(call)

    def index(self, ns: Namespace) -> FlowIndex | None:
        """Return the flows of a namespace that is watched."""
        followed = self._followed.get(ns)
        return None if followed is None else followed.index

    def whole(self, ns: Namespace) -> bool:
        """Tell whether the index holds all that the kernel told and nothing was lost."""
        followed = self._followed.get(ns)
        return followed is not None and followed.whole

    async def watch(self, wanted: Mapping[Namespace, Scope]) -> None:
        """Follow exactly these from now on; those that stay as they are go on undisturbed."""
        other = [ns for ns, followed in self._followed.items() if wanted.get(ns) != followed.scope]
        if other:
            await self._tasks.stop(*(name for ns in other for name in _names(ns)))
        for ns in other:
            del self._followed[ns]
        for ns, scope in wanted.items():
            self._followed.setdefault(ns, _Followed(scope, FlowIndex(scope.inside)))
            self._tasks.start(_names(ns)[0], lambda ns=ns: self._follow(ns))  # type: ignore[misc]

    async def _follow(self, ns: Namespace) -> None:
        """Listen for as long as the namespace is wanted, whenever it is there."""
        while (followed := self._followed.get(ns)) is not None:
            try:
                await self._listen(ns, followed)
            except KernelError as error:
                log.debug("flows-unheard", ns=ns, error=str(error))
            finally:
                followed.whole = followed.listening = False
            # The namespace is gone, and its flows with it.
            followed.index = FlowIndex(followed.scope.inside)
            await asyncio.sleep(PATIENCE)

    async def _listen(self, ns: Namespace, followed: _Followed) -> None:
        """Take events until the namespace is gone."""
        number = 0
        async with aclosing(cast("AsyncGenerator[CtEvent, None]", self._conntrack.events(ns))) as events:
            async for event in events:
                if event.entry is None:
                    self._lost(ns, followed, event)
                else:
                    self._take(ns, followed, event, event.entry)
                number += 1
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0)

    def _take(self, ns: Namespace, followed: _Followed, event: CtEvent, entry: CtEntry) -> None:
        """Bring the index up to date with one event."""
        flow = flow_of(entry)
        if followed.scope.zone in {None, entry.zone}:
            if event.kind == "new":
                followed.index.add(flow)
            else:
                followed.index.remove(flow)
            if not followed.whole:
                followed.told.add(pack(flow))
        if event.kind == "destroy":
            self._tell(ns, flow.key)

    def _lost(self, ns: Namespace, followed: _Followed, event: CtEvent) -> None:
        """Read the table, because events were lost or are told only from now on."""
        if event.kind == "overrun":
            log.warning("flow-events-lost", ns=ns)
        followed.listening, followed.whole, followed.again = True, False, True
        self._tasks.start(_names(ns)[1], lambda: self._read(ns, followed))

    async def _read(self, ns: Namespace, followed: _Followed) -> None:
        """Read the table until nothing was lost while it was read."""
        clock = asyncio.get_running_loop().time
        while followed.again and followed.listening:
            followed.again = False
            begun = clock()
            try:
                gone = await self._compare(ns, followed)
            except (KernelError, OSError) as error:  # as a rule the namespace went away, which who listens is told too
                log.info("flows-unread", ns=ns, error=str(error))
                followed.again = True
            else:
                for key in gone:
                    self._tell(ns, key)
                if not followed.again and followed.listening:
                    followed.whole = True
                    followed.told.clear()
                    log.info("flows-read", ns=ns, flows=len(followed.index), ended=len(gone))
                    for read in self._reads:
                        read(ns)
                    return
            await asyncio.sleep(max(LEAST_PAUSE, SHARE * (clock() - begun)))

    async def _compare(self, ns: Namespace, followed: _Followed) -> tuple[FlowKey, ...]:
        """Lead the index to what the kernel has; return what ended unheard."""
        index, told = followed.index, followed.told
        told.clear()
        seen: set[bytes] = set()
        for number, entry in enumerate(self._conntrack.dump(ns, zone=followed.scope.zone)):
            flow = flow_of(entry)
            packed = pack(flow)
            if packed not in told:
                index.add(flow)
                seen.add(packed)
            if number % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
        return tuple(flow.key for flow in index.keep(seen | told))

    def _tell(self, ns: Namespace, key: FlowKey) -> None:
        """Say that a flow ended."""
        for call in self._ended:
            call(ns, key)


def _names(ns: Namespace) -> tuple[str, str]:
    """Return the names of the tasks of a namespace: that which listens, that which reads."""
    return f"flows {ns}", f"flows-read {ns}"
