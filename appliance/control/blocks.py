"""Port blocks of source NAT at run time: counts what is in use and takes another block before one is full.

A new block is announced first and used only after the announcement had time to spread: the block enters the list before
the newest one, and becomes the newest `SETTLE` seconds after the BGP engines were told. The list is kept in the store,
with what it was taken under: another address, block size or slot makes it void. Called by `appliance.control.daemon`.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

import structlog

from appliance.kernel.conntrack_codec import CtEntry
from appliance.model.errors import KernelError
from appliance.model.facts import Namespace
from appliance.model.intent import Intent, SourceNat
from appliance.state.store import Store
from services.edge import carried
from services.nat import block_network, block_of, next_block, own_blocks
from services.place import Place

log = structlog.get_logger()

#: Seconds between the announcement of a block and its first use.
SETTLE = 1.0
#: What a VPC holds before it takes anything.
FIRST = (0,)
#: Entries of a dump that are counted before others get their turn.
AT_ONCE = 500

Announced = Collection[IPv4Network | IPv6Network]


class Flows(Protocol):
    """What is asked of the conntrack port."""

    def count(self, ns: Namespace) -> int:
        """Return the number of entries of a namespace."""
        ...

    def dump(self, ns: Namespace) -> Iterable[CtEntry]:
        """Return the entries of a namespace."""
        ...


@dataclass(frozen=True, slots=True)
class Taken:
    """Indexes into the host's own sequence of blocks, newest last, and what the sequence depends on."""

    under: str
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is to be taken into use, and when; None while the engines have not been told."""

    wanted: tuple[int, ...]
    due: float | None = None


def _under(place: Place, nat: SourceNat) -> str:
    return f"{nat.address}/{nat.block}/{place.slot}/{place.slots}"


class Blocks:
    """Blocks taken per VPC on this host."""

    def __init__(self, store: Store, flows: Flows) -> None:
        """Start with what the store remembers."""
        self._store, self._flows = store, flows
        self._taken: dict[str, Taken] = {}
        for key in store.keys("blocks/"):
            if (row := store.get(key)) is not None:
                value = json.loads(row[0])
                self._taken[key.removeprefix("blocks/")] = Taken(value["under"], tuple(value["blocks"]))
        self._waiting: dict[str, Waiting] = {}

    def taken(self, intent: Intent, node: str) -> dict[str, tuple[int, ...]]:
        """Return what is taken under this intent, by VPC; a VPC that is not named has its first block."""
        found = {}
        for vpc in carried(intent, node):
            nat, taken = intent.vpcs[vpc].snat, self._taken.get(vpc)
            if nat is not None and taken is not None and taken.under == _under(Place.of(intent, node, vpc), nat):
                found[vpc] = taken.blocks
        return found

    async def step(self, intent: Intent, node: str, announced: Announced, now: float) -> bool:
        """Look at every VPC here once; tell whether `taken` changed. Cheap while few ports are in use.

        `announced` are the prefixes that the BGP engines were told to announce.
        """
        taken = self.taken(intent, node)
        self._waiting = {vpc: waiting for vpc, waiting in self._waiting.items() if vpc in taken}
        changed = False
        for vpc in carried(intent, node):
            nat, place = intent.vpcs[vpc].snat, Place.of(intent, node, vpc)
            if nat is None:
                continue
            if vpc in self._waiting:
                changed |= self._wait(place, nat, announced, now)
            else:
                changed |= await self._look(place, nat, taken.get(vpc, FIRST), announced)
        return changed

    async def _look(self, place: Place, nat: SourceNat, taken: tuple[int, ...], announced: Announced) -> bool:
        """Take another block if the newest is full enough: a new one is to be announced first."""
        used = await self._used(place, nat)
        wanted = next_block(nat, place.slot, place.slots, taken, used)
        if wanted == taken:
            return False
        if set(wanted) == set(taken) and _network(place, nat, wanted[-1]) in announced:
            return self._use(place, nat, wanted)
        log.info("port-block-announced", vpc=place.vpc, block=wanted[-1], in_use=dict(used))
        self._waiting[place.vpc] = Waiting(wanted)
        return self._set(place, nat, (*wanted[-1:], *(index for index in taken if index != wanted[-1])))

    def _wait(self, place: Place, nat: SourceNat, announced: Announced, now: float) -> bool:
        """Use a block once its announcement has had time to spread."""
        waiting = self._waiting[place.vpc]
        if waiting.due is None:
            if _network(place, nat, waiting.wanted[-1]) in announced:
                self._waiting[place.vpc] = Waiting(waiting.wanted, now + SETTLE)
            return False
        return now >= waiting.due and self._use(place, nat, waiting.wanted)

    def _use(self, place: Place, nat: SourceNat, wanted: tuple[int, ...]) -> bool:
        self._waiting.pop(place.vpc, None)
        log.info("port-block-used", vpc=place.vpc, block=wanted[-1])
        return self._set(place, nat, wanted)

    def _set(self, place: Place, nat: SourceNat, blocks: tuple[int, ...]) -> bool:
        taken = self._taken[place.vpc] = Taken(_under(place, nat), blocks)
        self._store.put(f"blocks/{place.vpc}", json.dumps({"under": taken.under, "blocks": taken.blocks}))
        return True

    async def _used(self, place: Place, nat: SourceNat) -> dict[int, int]:
        """Count ports in use per block; the dump is made only when there are enough entries to matter."""
        ports: set[int] = set()
        try:
            if self._flows.count(place.ns) < nat.watermark * nat.block:
                return {}
            for number, entry in enumerate(self._flows.dump(place.ns)):
                if (port := translated_port(entry, nat)) is not None:
                    ports.add(port)
                if number % AT_ONCE == AT_ONCE - 1:
                    await asyncio.sleep(0)
        except (KernelError, OSError):
            return {}
        blocks = (block_of(port, nat, place.slot, place.slots) for port in ports)
        return Counter(block for block in blocks if block is not None)


def translated_port(entry: CtEntry, nat: SourceNat) -> int | None:
    """Return the port that an entry uses on the shared address: where its replies go."""
    reply = entry.reply
    if reply.destination != nat.address:
        return None
    return reply.dport if reply.icmp is None else reply.icmp.id


def _network(place: Place, nat: SourceNat, index: int) -> IPv6Network:
    """Return the composed prefix of a block by its index in the host's own sequence."""
    return block_network(nat, own_blocks(nat, place.slot, place.slots)[index], place.composed)
