"""Port blocks of source NAT at run time: counts what is in use and takes another block before one is full.

A new block is announced first and used only after it had time to spread (`SETTLE` seconds): the block enters the list
before the newest one, and becomes the newest in a second step. The list is kept in the store.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Protocol

import structlog

from appliance.kernel.conntrack import CtEntry
from appliance.model.errors import KernelError
from appliance.model.facts import Namespace
from appliance.model.intent import Intent, SourceNat
from appliance.state.store import Store
from services.nat import block_of, next_block
from services.place import Place

log = structlog.get_logger()

#: Seconds between the announcement of a block and its first use.
SETTLE = 1.0


class Flows(Protocol):
    """What is asked of the conntrack port."""

    def count(self, ns: Namespace) -> int:
        """Return the number of entries of a namespace."""
        ...

    def dump(self, ns: Namespace) -> list[CtEntry]:
        """Return the entries of a namespace."""
        ...


class Blocks:
    """Blocks taken per VPC on this host, newest last."""

    def __init__(self, store: Store, flows: Flows) -> None:
        """Start with what the store remembers."""
        self._store, self._flows = store, flows
        self.taken: dict[str, tuple[int, ...]] = {
            key.removeprefix("blocks/"): tuple(json.loads(row[0]))
            for key in store.keys("blocks/")
            if (row := store.get(key)) is not None
        }
        self._waiting: dict[str, tuple[tuple[int, ...], float]] = {}

    def step(self, intent: Intent, node: str, vpcs: tuple[str, ...], now: float) -> bool:
        """Look at every VPC once; tell whether `taken` changed. Cheap while few ports are in use."""
        changed = {vpc: self._step(intent, node, vpc, now) for vpc in vpcs}
        return any(changed.values())

    def _step(self, intent: Intent, node: str, vpc: str, now: float) -> bool:
        nat, place = intent.vpcs[vpc].snat, Place.of(intent, node, vpc)
        if nat is None:
            return False
        if vpc in self._waiting:
            wanted, due = self._waiting[vpc]
            return now >= due and self._use(vpc, wanted)
        taken = self.taken.get(vpc, (0,))
        used = self._used(place, nat)
        wanted = next_block(nat, place.slot, place.slots, taken, used)
        if wanted == taken:
            return False
        if set(wanted) == set(taken):
            return self._use(vpc, wanted)
        log.info("port-block-announced", vpc=vpc, block=wanted[-1], in_use=dict(used))
        self._waiting[vpc] = (wanted, now + SETTLE)
        return self._set(vpc, (wanted[-1], *taken))

    def _use(self, vpc: str, wanted: tuple[int, ...]) -> bool:
        self._waiting.pop(vpc, None)
        log.info("port-block-used", vpc=vpc, block=wanted[-1])
        return self._set(vpc, wanted)

    def _set(self, vpc: str, blocks: tuple[int, ...]) -> bool:
        self._store.put(f"blocks/{vpc}", json.dumps(blocks))
        self.taken[vpc] = blocks
        return True

    def _used(self, place: Place, nat: SourceNat) -> dict[int, int]:
        """Count ports in use per block; the dump is made only when there are enough entries to matter."""
        try:
            if self._flows.count(place.ns) < nat.watermark * nat.block:
                return {}
            entries = self._flows.dump(place.ns)
        except KernelError:
            return {}
        ports = {port for entry in entries if (port := translated_port(entry, nat)) is not None}
        blocks = (block_of(port, nat, place.slot, place.slots) for port in ports)
        return Counter(block for block in blocks if block is not None)


def translated_port(entry: CtEntry, nat: SourceNat) -> int | None:
    """Return the port that an entry uses on the shared address: where its replies go."""
    return entry.reply.dport if entry.reply.dst == nat.address else None
