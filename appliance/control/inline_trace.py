"""What becomes of one flow on an inline edge, in the words of `flow_trace`; called by it for `edgeway trace`.

A record does not tell on which side its flow began: that is known if the device is given by which its first packet comes
in, else both roads are told. Nothing is translated or routed on a wire: what passes leaves by the partner of its port.
"""

from __future__ import annotations

from typing import Final

from appliance.control.flow_desk import FlowDesk, Row, Sighting
from appliance.model import describe
from appliance.model.errors import OperatorError
from appliance.model.facts import Instruction
from appliance.model.inline import Bridge, Inline, InlineEngine
from appliance.model.marks import Action, Mark
from services.inline.compile import edges_of
from services.inline.names import SIDES, Side
from services.inline.trace import Said, ask, rule_text

#: How much of a rule's identity is shown: enough to tell rules of one VPC or edge apart.
SHORT: Final = 8


def trace_inline(desk: FlowDesk, seen: Sighting, device: str = "") -> Row:
    """Trace a flow of an inline edge."""
    return InlineTracer(desk, seen, device).row()


class InlineTracer:
    """One flow on one engine."""

    def __init__(self, desk: FlowDesk, seen: Sighting, device: str) -> None:
        """`device` is the port by which its first packet comes in, if that is known."""
        self.desk, self.seen, self.scope = desk, seen, seen.scope
        edge = edges_of(desk.intent, desk.node)[seen.scope.name.split("/")[1]]
        self.engine: InlineEngine = edge.engines[seen.scope.engine]
        self.came: Side | None = None
        self.bridge: Bridge | None = None
        if device:
            self.came, self.bridge = _port(edge, seen.scope.engine, device)
        self.device = device
        self.held = desk.instructions.of(seen.scope.ns).get(seen.key)
        self.generations = dict(desk.judge.generations(seen.scope.ns))

    def row(self) -> Row:
        """Say everything."""
        key, entry = self.seen.key, self.seen.entry
        ways = [self._way(toward) for toward in SIDES if toward != self.came]
        results = {way["destination"]: way["result"] for way in ways}
        one = len(set(results.values())) == 1
        return {
            "vpc": self.scope.name,
            "flow": describe.flow(key),
            "zone": key.zone,
            "live": entry is not None,
            "state": None if entry is None else entry.tcp_state,
            "arrives": self.device or "either side",
            "source": f"{key.source}: {self.came or 'north or south'}",
            "instruction": None if self.held is None else self.held.action.name.lower(),
            "record": None if entry is None else self.desk.record(entry.mark, dict(self.generations)),
            "ways": ways,
            "result": ways[0]["result"] if one else "; ".join(f"{side}: {said}" for side, said in results.items()),
        }

    def _way(self, toward: Side) -> Row:
        said = ask(self.engine, toward, self.seen.key)
        now = said.action if self.held is None else self.held.action
        cached, differs = self._cached(now)
        action = cached or now
        leaves = "the partner of its port"
        if self.bridge is not None:
            leaves = self.bridge.north if toward == "north" else self.bridge.south
        return {
            "destination": f"toward {toward}",
            "translation": [],
            "ports": [_asked(toward, said)],
            "action": action.name.lower(),
            "object": None,
            "engine": self.engine.id,
            "differs": differs,
            "next-hop": leaves,
            "result": "passes" if action is Action.ALLOW else _dropped(action, self._who(said, self.held, cached)),
        }

    def _cached(self, now: Action) -> tuple[Action | None, str | None]:
        """Return the decision of a record that is current and says something else, and why they differ if they do."""
        mark = Mark.of(self.seen.entry.mark) if self.seen.entry is not None else Mark(0, 0, 0)
        if not mark.generation or mark.action == now:
            return None, None
        record = self.desk.record(mark.word, dict(self.generations))
        said = f"the record says {record['action']}, the rules now say {now.name.lower()}"
        if record["judged"] == "stale":
            return None, f"{said}: stale, judged again at its next packet"
        return Action(mark.action), f"{said}: it began on the other side, or a commit is on its way"

    @staticmethod
    def _who(said: Said, held: Instruction | None, cached: Action | None) -> str:
        if cached is not None:
            return "its record, which is current"
        if held is not None:
            return "the instruction"
        return "the default" if said.identity is None else f"rule {said.identity[:SHORT]}"


def _dropped(action: Action, who: str) -> str:
    return f"dropped by {who}, with an answer" if action is Action.REJECT else f"dropped by {who}"


def _asked(toward: Side, said: Said) -> Row:
    return {
        "guest": None,
        "end": f"toward {toward}",
        "rule": None if said.identity is None else said.identity[:SHORT],
        "position": said.position,
        "tier": None,
        "says": f"traffic toward {toward} that no rule matches" if said.rule is None else rule_text(said.rule),
        "action": said.action.name.lower(),
        "because": None,
    }


def _port(edge: Inline, engine: str, device: str) -> tuple[Side, Bridge]:
    """Return on which side of which wire a device is; OperatorError if this engine judges nothing of it."""
    here = [bridge for bridge in edge.bridges.values() if bridge.engine == engine]
    for bridge in here:
        if device in {bridge.north, bridge.south}:
            return "north" if device == bridge.north else "south", bridge
    known = ", ".join(port for bridge in here for port in (bridge.north, bridge.south))
    raise OperatorError.of(f"engine {engine} judges nothing that comes in by {device}", f"--in: {known or 'no device'}")
