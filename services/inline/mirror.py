"""Which ports of wires are held down because the other side is down: so both rows of routers see a cable. Pure.

A side that we hold down has no carrier because of us, so it can never be a cause; a side that has just been raised has
none yet (its partner at the other end of the cable needs time), so it is no cause before `GRACE` seconds have passed.
What is left has lost its carrier by itself. Fed by `appliance.control` with what the links port says of carriers; what is
held becomes `Link.up` in `services.inline.compile`, and from the kernel's links a restarted daemon remembers it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Final

from appliance.model.facts import Link, Namespace
from appliance.model.intent import Intent
from services.inline.compile import Held, edges_of
from services.inline.names import SIDES, Side, edge_namespace

#: Seconds that a port may take from being raised to having a carrier.
GRACE: Final = 5.0

Port = tuple[Namespace, str]
Carriers = Mapping[Port, bool]


@dataclass(frozen=True, slots=True)
class State:
    """One wire: the side held down, if any; until when a missing carrier is no cause yet.

    `patience` is None while both sides have been seen with a carrier, `inf` while none has one: they may come back one
    after the other.
    """

    held: Side | None = None
    patience: float | None = inf

    def see(self, *, north: bool, south: bool, now: float) -> State:
        """Return the state after a look at both carriers."""
        if self.held is not None:
            back = south if self.held == "north" else north
            return State(None, now + GRACE) if back else self
        if north == south:
            return State(None, None if north else inf)
        if self.patience == inf:
            return State(None, now + GRACE)
        if self.patience is not None and now < self.patience:
            return self
        return State("north" if north else "south", None)


@dataclass(frozen=True, slots=True)
class Mirror:
    """The states of all wires of a host that mirror their carriers, by their ports north and south."""

    wires: Mapping[tuple[Port, Port], State]

    @classmethod
    def of(cls, intent: Intent, node: str, before: Mirror | None, links: Iterable[Link]) -> Mirror:
        """Take up the wires of an intent: as they were, else as the kernel has them, else as just plugged in."""
        down = {link.key for link in links if not link.up}
        known = before.wires if before is not None else {}
        return cls({ports: known.get(ports) or _remembered(ports, down) for ports in _wires(intent, node)})

    def see(self, carriers: Carriers, now: float) -> Mirror:
        """Return what follows from a look at the carriers; a port that is not there has none."""
        seen = {
            (north, south): state.see(north=carriers.get(north, False), south=carriers.get(south, False), now=now)
            for (north, south), state in self.wires.items()
        }
        return replace(self, wires=seen)

    @property
    def held(self) -> Held:
        """The ports to hold down."""
        return frozenset(
            ports[SIDES.index(state.held)] for ports, state in self.wires.items() if state.held is not None
        )

    @property
    def namespaces(self) -> frozenset[Namespace]:
        """Where to look for carriers."""
        return frozenset(ns for ports in self.wires for ns, _ in ports)

    @property
    def again(self) -> float | None:
        """When to look again though nothing is told: a side whose patience ends is a cause then."""
        waiting = [state.patience for state in self.wires.values() if state.patience not in (None, inf)]
        return min(filter(None, waiting), default=None)


def _wires(intent: Intent, node: str) -> Iterable[tuple[Port, Port]]:
    for name, edge in edges_of(intent, node).items():
        if edge.mirror:
            ns = edge_namespace(name)
            yield from (((ns, bridge.north), (ns, bridge.south)) for bridge in edge.bridges.values())


def _remembered(ports: tuple[Port, Port], down: set[object]) -> State:
    """Return the state of a wire that is new to this process; both sides down were not both held by us."""
    held = [side for side, port in zip(SIDES, ports, strict=True) if port in down]
    return State(held[0], None) if len(held) == 1 else State()
