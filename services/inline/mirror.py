"""Which ports of wires are held down: those of a wire that nobody judges yet, and the far side of a lost carrier. Pure.

A wire is opened when its engine stands in the kernel, with no word of failure, and not before: a bridge without rules
passes everything. From then on both rows of routers see a cable: a side that loses its carrier takes the other one
down. A side that we hold down has no carrier because of us, so it can never be a cause; a side that has just been raised
has none yet (its partner at the other end of the cable needs time), so it is no cause before `GRACE` seconds have passed.

Called by `appliance.control`: with the outcome of a reconcile, and with what the links port says of carriers. What is
held becomes `Link.up` in `services.inline.compile`; from the kernel's links a restarted daemon knows what it held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final

from appliance.model.facts import Engine, Link, Namespace, NftSet, NftTable, Sysctl, Wire
from appliance.model.intent import Intent
from services.inline.compile import Held, edges_of
from services.inline.names import SIDES, Side, edge_namespace, engine_namespace

#: Seconds that a port may take from being raised to having a carrier.
GRACE: Final = 5.0

Port = tuple[Namespace, str]
Carriers = Mapping[Port, bool]


@dataclass(frozen=True, slots=True)
class Cable:
    """One wire: its ports, where its engine judges, and whether one side tells the other."""

    north: Port
    south: Port
    judge: Namespace
    mirrors: bool = True

    @property
    def ports(self) -> tuple[Port, Port]:
        """North and south."""
        return (self.north, self.south)


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a wire: whether it is open, the side held down, until when a missing carrier is no cause yet.

    `patience` is None while both sides have been seen with a carrier, `inf` while none has one: they may come back one
    after the other.
    """

    open: bool = False
    held: Side | None = None
    patience: float | None = inf

    def see(self, *, north: bool, south: bool, now: float) -> State:
        """Return the state of an open wire after a look at both carriers."""
        if self.held is not None:
            back = south if self.held == "north" else north
            return replace(self, held=None, patience=now + GRACE) if back else self
        if north == south:
            return replace(self, patience=None if north else inf)
        if self.patience == inf:
            return replace(self, patience=now + GRACE)
        if self.patience is not None and now < self.patience:
            return self
        return replace(self, held="north" if north else "south", patience=None)


@dataclass(frozen=True, slots=True)
class Mirror:
    """The states of all wires of a host."""

    wires: Mapping[Cable, State] = field(default_factory=dict)

    def over(self, intent: Intent, node: str, links: Iterable[Link]) -> Mirror:
        """Take up the wires of an intent: as they were, else as the kernel has them, else closed."""
        up = {link.key: link.up for link in links}
        cables = cables_of(intent, node)
        return Mirror({cable: self.wires.get(cable) or _remembered(cable, up) for cable in cables})

    def judged(self, pending: Iterable[object]) -> Mirror:
        """Open the wires whose engine stands: nothing that they need is among the facts that were refused."""
        unsure: set[object] = set()
        for fact in pending:
            if isinstance(fact, NftTable | NftSet | Engine | Sysctl):
                unsure.add(fact.ns)
            elif isinstance(fact, Link | Wire):
                unsure.add(fact.key)
        return Mirror(
            {
                cable: state if state.open or unsure & {*cable.ports, cable.judge} else replace(state, open=True)
                for cable, state in self.wires.items()
            }
        )

    def see(self, carriers: Carriers, now: float) -> Mirror:
        """Return what follows from a look at the carriers; a port that is not there has none."""
        return Mirror(
            {
                cable: state.see(
                    north=carriers.get(cable.north, False), south=carriers.get(cable.south, False), now=now
                )
                if state.open and cable.mirrors
                else state
                for cable, state in self.wires.items()
            }
        )

    @property
    def held(self) -> Held:
        """The ports to hold down."""
        return frozenset(
            port
            for cable, state in self.wires.items()
            for side, port in zip(SIDES, cable.ports, strict=True)
            if not state.open or state.held == side
        )

    @property
    def namespaces(self) -> frozenset[Namespace]:
        """Where to look for carriers."""
        return frozenset(ns for cable in self.wires for ns, _ in cable.ports)

    @property
    def again(self) -> float | None:
        """When to look again though nothing is told: a side whose patience ends is a cause then."""
        waiting = [state.patience for state in self.wires.values() if state.patience not in (None, inf)]
        return min(filter(None, waiting), default=None)


def cables_of(intent: Intent, node: str) -> Iterator[Cable]:
    """Yield the wires of a host."""
    for name, edge in edges_of(intent, node).items():
        ns = edge_namespace(name)
        for bridge in edge.bridges.values():
            judge = engine_namespace(name, edge, bridge.engine)
            yield Cable((ns, bridge.north), (ns, bridge.south), judge, edge.mirror)


def _remembered(cable: Cable, up: Mapping[object, bool]) -> State:
    """Return the state of a wire that is new to this process; both sides down are closed."""
    raised = [side for side, port in zip(SIDES, cable.ports, strict=True) if up.get(port)]
    if not raised:
        return State()
    lowered = [side for side, port in zip(SIDES, cable.ports, strict=True) if up.get(port) is False]
    return State(open=True, held=lowered[0], patience=None) if lowered else State(open=True)
