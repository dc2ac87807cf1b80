"""What is done to the flows that a change affects: the table, the search, the decision (design 0005).

Pure: `appliance.control.reconciliation` carries the steps out. The kernel cannot change the translation of a record, so
there are four things to do with one whose translation is no longer true, and the operator chooses for each change:

- keep: nothing; the flow goes on as it was translated, or ends by itself;
- re-judge: delete the record; the next packet is judged and translated as a first one;
- reset: packets from either side are answered (TCP with RST, others with ICMP) for `GRACE` seconds, then as re-judge;
- drop: packets of either side are dropped for as long as the record lives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from appliance.model.facts import Flow, FlowKey
from appliance.model.marks import Action
from appliance.model.policy import Choice
from services.flows.changes import (
    BackendGone,
    Change,
    FloatingMoved,
    GuestGone,
    GuestMoved,
    SnatMoved,
    VipGone,
    VipServed,
)
from services.flows.index import FlowIndex

#: Seconds for which a flow that was reset is answered; then its record ends. Who speaks later is judged as new.
GRACE: Final = 30

#: The words of an operator by field of `vpc.established`; a field that is absent or None means the table below.
Policy = Mapping[str, Choice | None]


@dataclass(frozen=True, slots=True)
class Row:
    """What happens to established flows after one kind of change unless the operator says otherwise.

    `field` of `vpc.established` overrides it; `new` says what becomes of new flows, `why` why this is the default.
    """

    field: str
    tcp: Choice
    udp: Choice
    other: Choice
    new: str
    why: str

    def choice(self, protocol: int) -> Choice:
        """Return the default for a protocol."""
        return {6: self.tcp, 17: self.udp}.get(protocol, self.other)


TABLE: Final[dict[str, Row]] = {
    "vip-gone": Row(
        "vip_gone",
        "reset",
        "re-judge",
        "re-judge",
        "not translated, judged by the rules; nobody announces the address",
        "TCP clients learn it at once; a UDP client that keeps its port is served again when the VIP comes back",
    ),
    "backend-gone": Row(
        "backend_gone",
        "reset",
        "re-judge",
        "re-judge",
        "another backend, here or on another host",
        "a TCP connection cannot go on with another backend; the next datagram can",
    ),
    "floating-moved": Row(
        "floating_moved",
        "reset",
        "re-judge",
        "re-judge",
        "translated by the new pair, or as the guest's other flows",
        "the public address is somebody else's: neither side may go on believing in the old one",
    ),
    "snat-moved": Row(
        "snat_moved",
        "reset",
        "re-judge",
        "re-judge",
        "translated to the new address and ports",
        "what answers the old port no longer arrives here: kept flows would hang, and use another's address",
    ),
    "guest-gone": Row(
        "guest_gone",
        "reset",
        "re-judge",
        "re-judge",
        "no route; judged by the rules of a new guest with that address",
        "peers learn it at once; the next guest with the address must not inherit records",
    ),
    "guest-moved": Row(
        "guest_gone",
        "re-judge",
        "re-judge",
        "re-judge",
        "made on the new host",
        "the new host picks up what is untranslated or one to one; a record left here would be stale when it returns",
    ),
    "vip-served": Row(
        "vip_served",
        "re-judge",
        "re-judge",
        "re-judge",
        "translated to the backend",
        "a client that keeps its port would call in vain for as long as it calls",
    ),
}


class Effect(NamedTuple):
    """What a choice means for a record: deleted, or an instruction, and how long it lives from now on."""

    delete: bool = False
    action: Action | None = None
    timeout: int | None = None


EFFECTS: Final[dict[Choice, Effect]] = {
    "keep": Effect(),
    "re-judge": Effect(delete=True),
    "reset": Effect(action=Action.REJECT, timeout=GRACE),
    "drop": Effect(action=Action.DENY),
}


@dataclass(frozen=True, slots=True)
class Step:
    """What is done to one flow, and because of what."""

    change: Change
    flow: Flow
    choice: Choice

    @property
    def effect(self) -> Effect:
        """What that means for its record."""
        return EFFECTS[self.choice]


class Count(NamedTuple):
    """How many flows of a protocol a change affects, and what is done to them."""

    change: Change
    protocol: int
    choice: Choice
    flows: int


def affected(change: Change, index: FlowIndex) -> Iterator[Flow]:
    """Yield the flows whose translation a change made untrue."""
    match change:
        case VipGone(service=service):
            return index.of_service(*service)
        case BackendGone(service=service, backend=backend):
            return index.of_service(*service, backend)
        case FloatingMoved(public=public, private=private):
            return index.of_pair(public, private)
        case SnatMoved(address=address, ports=ports):
            return index.from_public(address, *ports)
        case GuestGone(address=address) | GuestMoved(address=address):
            return index.of_guest(address)
        case VipServed(service=service):
            return index.astray(*service)


def decide(change: Change, flows: Iterable[Flow], policy: Policy) -> tuple[Step, ...]:
    """Choose for each flow: the operator's word for this kind of change, else the table's."""
    row = TABLE[change.kind]
    word = policy.get(row.field)
    return tuple(Step(change, flow, word or row.choice(flow.key.protocol)) for flow in flows)


def plan(found: Iterable[Change], index: FlowIndex, policy: Policy) -> Iterator[Step]:
    """Decide for every flow that changes affect, each by the first change that it is part of."""
    seen = set[FlowKey]()
    for change in found:
        for flow in affected(change, index):
            if flow.key not in seen:
                seen.add(flow.key)
                yield from decide(change, (flow,), policy)


def counts(steps: Iterable[Step]) -> tuple[Count, ...]:
    """Count steps by change, protocol and choice, in the order of the changes."""
    found = Counter((step.change, step.flow.key.protocol, step.choice) for step in steps)
    return tuple(Count(*key, number) for key, number in found.items())


def table() -> str:
    """Write the table as the design note has it."""
    lines = ["| change | TCP | UDP | others | new flows | why |", "|---|---|---|---|---|---|"]
    for kind, row in TABLE.items():
        lines.append(f"| {kind} | {row.tcp} | {row.udp} | {row.other} | {row.new} | {row.why} |")
    return "\n".join(lines)
