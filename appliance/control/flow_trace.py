"""What becomes of one flow, with everything that has a say in it: gathered here, decided by `services.flows.trace`.

Called by `appliance.panel.flow_views` for `edgeway trace`. The next hop is the kernel's own answer; all else follows from
the intent, the live record and the instructions. Where record and rules differ, both are said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from appliance.control.flow_desk import FlowDesk, Row, Sighting
from appliance.control.inline_trace import SHORT, trace_inline
from appliance.kernel.route_lookup import Found, Query
from appliance.model import describe
from appliance.model.errors import InternalError, OperatorError
from appliance.model.facts import Address, Flow, Instruction
from appliance.model.intent import Vpc
from appliance.model.marks import STEER, Action, Mark
from services.flows.trace import Asked, Edge, Judgement, Target, protocol, rule_text
from services.place import LAN, OVERLAY_DEVICE, UPLINK, Place

#: What the program lets in before it judges: it is for the edge itself.
_OWN: Final = frozenset({"local", "broadcast", "multicast"})


@dataclass(frozen=True, slots=True)
class Way:
    """What happens to a flow if it goes to one target; `found` is where the kernel sends its packets."""

    target: Target
    judgement: Judgement
    found: Found
    action: Action
    object: int
    #: Whether the record's cached decision holds, though the rules would say something else now.
    cached: bool = False

    @property
    def own(self) -> bool:
        """Whether the packet is for the edge itself."""
        return self.found.kind in _OWN


class Tracer:
    """One flow of one VPC."""

    def __init__(self, desk: FlowDesk, seen: Sighting, device: str = "") -> None:
        """`device` is where its first packet came in; deduced from its source if it is not given."""
        vpc = seen.scope.vpc
        if vpc is None:
            raise InternalError("an inline edge is traced elsewhere")
        self.desk, self.seen, self.scope = desk, seen, seen.scope
        place = Place.of(desk.intent, desk.node, seen.scope.name)
        self.edge = Edge.of(place, vpc, desk.runtime)
        self.came = _device(self.edge, device) if device else self.edge.arrival(seen.key.source)
        self.held = desk.instructions.of(seen.scope.ns).get(seen.key)
        self.generations = desk.judge.generations(seen.scope.ns)

    def row(self) -> Row:
        """Say everything."""
        key, flow = self.seen.key, self.seen.flow
        ways = [self._way(target) for target in self._targets(flow)]
        entry = self.seen.entry
        return {
            "vpc": self.scope.name,
            "flow": describe.flow(key),
            "zone": key.zone,
            "live": entry is not None,
            "state": None if entry is None else entry.tcp_state,
            "arrives": self.came,
            "source": self._whose(key.source),
            "instruction": None if self.held is None else self._instruction(self.held),
            "record": None if entry is None else self.desk.record(entry.mark, dict(self.generations)),
            "ways": [self._told(way, flow) for way in ways],
            "result": _joined([(way.target, self._result(way)) for way in ways]),
        }

    # -- what happens ---------------------------------------------------------------------------------------------

    def _targets(self, flow: Flow | None) -> tuple[Target, ...]:
        possible = self.edge.targets(self.seen.key)
        if flow is None:
            return possible
        # A record's translation stands, whatever the intent says by now.
        reply, port = flow.reply, flow.reply.source_port
        known = {(target.address, target.port): target for target in possible}
        why = "as its record has it" if reply.source != flow.key.destination or self._moved(flow) else ""
        return (known.get((reply.source, port), Target(reply.source, port, why)),)

    @staticmethod
    def _moved(flow: Flow) -> bool:
        """Tell whether the port is translated; an echo's identifier stands on the other side."""
        icmp = protocol(flow.key) == "icmp"
        return flow.reply.source_port != (flow.key.source_port if icmp else flow.key.destination_port)

    def _way(self, target: Target) -> Way:
        instruction = None if self.held is None else (self.held.action, self.held.object)
        judgement = self.edge.judge(self.seen.key, target, self.came, instruction)
        action, number, cached = judgement.action, judgement.object, False
        mark = Mark.of(self.seen.entry.mark) if self.seen.entry is not None else Mark(0, 0, 0)
        if mark.generation and self.generations.get(mark.engine) == mark.generation:
            said = Action(mark.action), mark.object
            cached = bool(judgement.refusal) or said != (action, number)
            action, number = said
        steered = action is Action.REDIRECT and self.came not in self._links()
        found = self._look_up(target.address)
        if steered and found.kind not in _OWN:
            found = self._look_up(target.address, STEER + number)
        return Way(target, judgement, found, action, number, cached)

    def _look_up(self, destination: Address, mark: int = 0) -> Found:
        query = Query(destination, self.seen.key.source, self.came, mark)
        return self.desk.kernel.lookup.look_up(self.scope.ns, query)

    def _links(self) -> frozenset[str]:
        """Return the devices towards service nodes: what comes from there has been there."""
        return frozenset(node.interface for node in self.edge.vpc.service_nodes.values() if node.host == self.desk.node)

    # -- in words -------------------------------------------------------------------------------------------------

    def _told(self, way: Way, flow: Flow | None) -> Row:
        judged = not (way.own or way.judgement.refusal)
        leaves = "" if way.found.hop is None else way.found.hop.link
        return {
            "destination": self._whose(way.target.address),
            "translation": list(self._translations(way.target, flow, leaves)),
            "ports": [self._asked(asked) for asked in way.judgement.asked] if judged else [],
            "action": way.action.name.lower() if judged or way.cached else None,
            "object": self._object(way) if judged or way.cached else None,
            "engine": way.judgement.engine if judged else None,
            "differs": self._differs(way),
            "next-hop": way.found.kind if way.found.hop is None else describe.hop(way.found.hop),
            "result": self._result(way),
        }

    def _object(self, way: Way) -> str | None:
        """Return what an action needs besides; who ordered it stands with the instruction."""
        plain = way.action in {Action.ALLOW, Action.DENY, Action.REJECT}
        return None if plain else self.desk.object_name(self.scope, way.action, way.object)

    def _translations(self, target: Target, flow: Flow | None, leaves: str) -> Iterable[str]:
        if target.why:
            yield f"destination becomes {target.address}:{target.port} ({target.why})"
        if flow is None:
            source = self.edge.translated_source(self.seen.key, target, self.came, leaves)
            if source:
                yield f"source becomes {source}"
        elif (flow.reply.destination, _public_port(flow)) != (flow.key.source, flow.key.source_port):
            yield f"source becomes {flow.reply.destination}:{_public_port(flow)}"

    def _asked(self, asked: Asked) -> Row:
        rule = None if asked.rule is None else self.edge.rules.rules[asked.rule]
        return {
            "guest": asked.guest or None,
            "end": asked.end,
            "rule": None if asked.rule is None else asked.rule[:SHORT],
            "position": asked.position,
            "tier": None if rule is None else rule.tier,
            "says": f"{asked.default} traffic that no rule matches" if rule is None else rule_text(rule),
            "action": asked.action.name.lower(),
            "because": None if rule is None else self.edge.unlike(rule) or None,
        }

    def _differs(self, way: Way) -> str | None:
        """Say why record and rules are not of one mind, if they are not."""
        entry = self.seen.entry
        mark = Mark.of(entry.mark) if entry is not None else Mark(0, 0, 0)
        if not mark.generation or way.own:
            return None
        now, record = way.judgement, self.desk.record(mark.word, dict(self.generations))
        if (mark.action, mark.object) == (now.action, now.object) and not now.refusal:
            return None
        said = "refused before they are asked" if now.refusal else now.action.name.lower()
        if record["judged"] == "stale":
            return (
                f"the record says {record['action']}, the rules now say {said}: stale, judged again at its next packet"
            )
        return f"the record says {record['action']} and is current, the rules now say {said}: a commit is on its way"

    def _result(self, way: Way) -> str:
        if way.own and not way.cached:
            return "passes: it is for the edge itself"
        if way.judgement.refusal and not way.cached:
            return f"dropped by {way.judgement.refusal}"
        who = "its record, which is current" if way.cached else self._who(way.judgement)
        if way.action is Action.DENY:
            return f"dropped by {who}"
        if way.action is Action.REJECT:
            return f"dropped by {who}, with an answer"
        name = self.desk.object_name(self.scope, way.action, way.object)
        if way.found.hop is None:
            through = f"service node {name}: no way to it" if way.action is Action.REDIRECT else "no route"
            return f"dropped by {through} ({way.found.kind})"
        return "passes" + {
            Action.REDIRECT: f" through service node {name}",
            Action.LIMIT: " within the rule's limit",
            Action.SAMPLE: ", some packets are copied",
        }.get(way.action, "")

    def _who(self, judgement: Judgement) -> str:
        decided = judgement.decided
        if decided is None:
            return "the instruction"
        place = f"the port of {decided.guest}" if decided.guest else "the edge"
        if decided.rule is None:
            return f"the default of {decided.default} traffic at {place}"
        why = self.edge.unlike(self.edge.rules.rules[decided.rule])
        rule = f"rule {decided.rule[:SHORT]} at {place}"
        return f"{why} ({rule})" if why else rule

    def _instruction(self, held: Instruction) -> str:
        name = self.desk.object_name(self.scope, held.action, held.object)
        word = "to" if held.action is Action.REDIRECT else "by service node"
        return held.action.name.lower() + (f" {word} {name}" if name else "")

    def _whose(self, address: Address) -> str:
        found = self.edge.guest(address)
        if found is not None:
            return f"{address}: guest {found[0]} on {found[1].host}"
        inside = address.version == 4 and address in self.edge.vpc.subnet  # noqa: PLR2004 - the IP version
        return f"{address}: {'nobody of the VPC' if inside else 'outside'}"


def trace(desk: FlowDesk, name: str, text: str, device: str = "") -> Row:
    """Trace a flow."""
    seen = desk.find(name, text)
    if seen.scope.vpc is None:
        return trace_inline(desk, seen, device)
    return Tracer(desk, seen, device).row()


def _public_port(flow: Flow) -> int:
    """Return the port that answers are sent to; of an echo the identifier, which stands with the source."""
    return flow.reply.source_port if protocol(flow.key) == "icmp" else flow.reply.destination_port


def _device(edge: Edge, device: str) -> str:
    """Return the device on which the program sees what comes in by a device: of a guest's port, the LAN."""
    known = _devices(edge.place, edge.vpc)
    if device not in known:
        raise OperatorError.of(f"{device} leads to nobody of this VPC here", f"--in: {', '.join(known)}")
    return known[device]


def _devices(place: Place, vpc: Vpc) -> Mapping[str, str]:
    ports = {guest.interface: LAN for guest in vpc.guests.values() if guest.host == place.node}
    links = {node.interface: node.interface for node in vpc.service_nodes.values() if node.host == place.node}
    return ports | links | {LAN: LAN, UPLINK: UPLINK, place.host_end: UPLINK, OVERLAY_DEVICE: OVERLAY_DEVICE}


def _joined(results: list[tuple[Target, str]]) -> str:
    """Say one result if all are one, else which target has which."""
    said = list(dict.fromkeys(result for _, result in results))
    if len(said) == 1:
        return said[0]
    where = {result: ", ".join(f"{t.address}:{t.port}" for t, r in results if r == result) for result in said}
    return "; ".join(f"to {targets}: {result}" for result, targets in where.items())
