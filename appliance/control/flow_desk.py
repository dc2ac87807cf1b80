"""What people ask and order about single flows: find a live record, instruct it, show instructions, rules, engines.

Called by `appliance.panel.flow_views`; made for one request, from what the daemon knows at that moment. A flow may be
written as seen from either end, translated or not: conntrack finds its record, and everything is done to the original
tuple. A flow that is not live is taken as written: an instruction may come before the first packet (design 0004).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, cast

from appliance.control.instructions import Instructions
from appliance.kernel.conntrack_codec import CtEntry, flow_of
from appliance.kernel.kernel import Kernel
from appliance.model import describe
from appliance.model.errors import KernelError, OperatorError
from appliance.model.facts import Flow, FlowKey, Instruction, Namespace
from appliance.model.flow_text import either_way, parse_flow
from appliance.model.inline import Inline
from appliance.model.intent import Intent, Vpc
from appliance.model.marks import Action, Mark, inline_zone, vpc_namespace, vpc_zone
from services.edge import carried
from services.feature import Runtime
from services.inline.compile import edges_of
from services.inline.names import engine_namespace

Row = dict[str, Any]
#: Words of the command line and what they make of a flow.
ORDERS: Final[Mapping[str, Action]] = {
    "deny": Action.DENY,
    "reset": Action.REJECT,
    "allow": Action.ALLOW,
    "redirect": Action.REDIRECT,
}
INLINE: Final = "inline/"
_ACTIONS: Final = {int(action): action.name.lower() for action in Action}


class Judge(Protocol):
    """What the nft port tells about the judging of flows."""

    def generations(self, ns: Namespace) -> Mapping[int, int]:
        """Return the generation of every engine of a namespace."""
        ...

    def policies(self, ns: Namespace) -> Mapping[int, str]:
        """Return the digest of the policy by which each engine's flows are judged."""
        ...

    def counters(self, ns: Namespace) -> Mapping[str, tuple[int, int]]:
        """Return packets and octets of the named counters."""
        ...


@dataclass(frozen=True, slots=True)
class Scope:
    """Where tuples mean one thing: a VPC here, or one engine of an inline edge here."""

    name: str
    ns: Namespace
    zone: int
    vpc: Vpc | None = None
    engine: str = ""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A flow as it was found: its original tuple, and its record if it is live."""

    scope: Scope
    key: FlowKey
    entry: CtEntry | None = None

    @property
    def flow(self) -> Flow | None:
        """The record in the model's words."""
        return None if self.entry is None else flow_of(self.entry)


class FlowDesk:
    """One node's flows."""

    def __init__(self, node: str, intent: Intent, runtime: Runtime, kernel: Kernel, instructions: Instructions) -> None:
        """Take what the daemon knows now."""
        self.node, self.intent, self.runtime, self.kernel = node, intent, runtime, kernel
        self.instructions = instructions

    @property
    def judge(self) -> Judge:
        """The port that holds the programs that judge."""
        return cast("Judge", self.kernel.ports["nft"])

    # -- where ----------------------------------------------------------------------------------------------------

    def scopes(self, name: str = "") -> tuple[Scope, ...]:
        """Return what a name means: VPC, `inline/EDGE`, `inline/EDGE/ENGINE`; everything here without one."""
        every = tuple(self._scopes())
        engines = f"{name}/" if name.startswith(INLINE) else name
        found = tuple(s for s in every if name in ("", s.name) or (engines != name and s.name.startswith(engines)))
        if name and not found:
            known = ", ".join(dict.fromkeys("/".join(scope.name.split("/")[:2]) for scope in every))
            raise OperatorError.of(f"there is no VPC or inline edge {name} on this node", f"here: {known or 'none'}")
        return found

    def _scopes(self) -> Iterator[Scope]:
        if "host" not in self.intent.nodes[self.node].roles:
            return
        for name in carried(self.intent, self.node):
            vpc = self.intent.vpcs[name]
            yield Scope(name, Namespace(vpc_namespace(name)), vpc_zone(vpc.id), vpc)
        for name, edge in edges_of(self.intent, self.node).items():
            yield from _engines(name, edge)

    # -- one flow -------------------------------------------------------------------------------------------------

    def find(self, name: str, text: str) -> Sighting:
        """Look a flow up as it was written, then from its other end, in every zone that the name means."""
        written, scopes = parse_flow(text), self.scopes(name)
        for scope in scopes:
            for way in either_way(replace(written, zone=scope.zone)):
                entry = self.kernel.conntrack.get(scope.ns, way)
                if entry is not None:
                    return Sighting(scope, flow_of(entry).key, entry)
        if len(scopes) > 1:
            engines = ", ".join(scope.name for scope in scopes)
            raise OperatorError.of(f"{name} has no such live flow, and several engines", f"name one of {engines}")
        return Sighting(scopes[0], replace(written, zone=scopes[0].zone))

    def order(self, name: str, text: str, word: str, to: str, now: float) -> Row:
        """Instruct one flow; when this returns, its next packet obeys."""
        if word not in ORDERS:
            raise OperatorError.of(f"{word} is nothing that can be done to a flow", f"one of {', '.join(ORDERS)}")
        seen = self.find(name, text)
        action, number = ORDERS[word], self._node_number(seen, word, to)
        before = self._generation(seen)
        given = Instruction(seen.scope.ns, seen.key, action, number)
        self.instructions.give((given,), now)
        held = self.instructions.of(seen.scope.ns).get(seen.key) == given
        row = self._told(seen, before) | {"action": word, "to": to or None, "in-force": held}
        if (seen.scope.name, to) in self.runtime.nodes_down:
            row["note"] = f"service node {to} does not answer now"
        return row

    def clear(self, name: str, text: str) -> Row:
        """Take the instruction of one flow back: the rules decide again."""
        seen = self.find(name, text)
        held = self.instructions.of(seen.scope.ns)
        # Given before the first packet, it may be written as the other end sees it.
        keys = [key for key in dict.fromkeys((seen.key, *either_way(seen.key))) if key in held]
        before = self._generation(seen)
        cleared = self.instructions.clear(seen.scope.ns, keys)
        return self._told(seen, before) | {"cleared": cleared}

    def clear_all(self, name: str) -> Row:
        """Take back every instruction of a VPC or an inline edge."""
        cleared = 0
        for scope in self.scopes(name):
            flows = [key for key in self.instructions.of(scope.ns) if key.zone == scope.zone]
            cleared += self.instructions.clear(scope.ns, flows)
        return {"vpc": name, "cleared": cleared}

    def _node_number(self, seen: Sighting, word: str, to: str) -> int:
        """Return the number of the service node of a redirect, 0 for what needs none."""
        if word != "redirect":
            if to:
                raise OperatorError.of(f"{word} leads nowhere", "--to stands with redirect")
            return 0
        vpc, flow = seen.scope.vpc, seen.flow
        nodes = {} if vpc is None else {n: s.id for n, s in vpc.service_nodes.items() if s.host == self.node}
        if to not in nodes:
            known = ", ".join(nodes) or "none"
            raise OperatorError.of(f"{to or 'nothing'} is no service node of {seen.scope.name} here", f"--to: {known}")
        ends = [seen.key.source, flow.reply.source if flow else seen.key.destination]
        if vpc is not None and not all(end.version == 4 and end in vpc.subnet for end in ends):  # noqa: PLR2004
            raise OperatorError.of(
                "what is translated cannot go through a service node", "redirect flows of two guests"
            )
        return nodes[to]

    def _generation(self, seen: Sighting) -> int | None:
        """Return the generation of the engine that a live flow's record names; it rises with every instruction."""
        if seen.entry is None or not Mark.of(seen.entry.mark).generation:
            return None
        return self.judge.generations(seen.scope.ns).get(Mark.of(seen.entry.mark).engine)

    def _told(self, seen: Sighting, before: int | None) -> Row:
        record = None if seen.entry is None else self.record(seen.entry.mark, {Mark.of(seen.entry.mark).engine: before})
        return {
            "vpc": seen.scope.name,
            "flow": describe.flow(seen.key),
            "live": seen.entry is not None,
            "record": record,
            "generation-before": before,
            "generation-after": self._generation(seen),
        }

    @staticmethod
    def record(word: int, generations: Mapping[int, int | None]) -> Row:
        """Say what a record's mark means beside the generations of its namespace."""
        mark = Mark.of(word)
        if not mark.generation:
            return {"engine": None, "generation": None, "judged": "never", "action": None}
        current = generations.get(mark.engine) == mark.generation
        return {
            "engine": mark.engine,
            "generation": mark.generation,
            "judged": "current" if current else "stale",
            "action": _ACTIONS.get(mark.action, str(mark.action)),
        }

    # -- many -----------------------------------------------------------------------------------------------------

    def held(self, name: str = "") -> list[Row]:
        """Return every instruction, with what has become of its flow."""
        return [
            self._row(scope, key, given)
            for scope in self.scopes(name)
            for key, given in sorted(self.instructions.of(scope.ns).items(), key=lambda row: describe.flow(row[0]))
            if key.zone == scope.zone
        ]

    def _row(self, scope: Scope, key: FlowKey, given: Instruction) -> Row:
        name, redirect = self.object_name(scope, given.action, given.object), given.action is Action.REDIRECT
        row = {"vpc": scope.name, "flow": describe.flow(key), "action": given.action.name.lower()}
        return row | {
            "to": name if redirect else None,
            "by": None if redirect else name,
            "live": self._live(scope.ns, key),
        }

    def _live(self, ns: Namespace, key: FlowKey) -> bool:
        try:
            return self.kernel.conntrack.get(ns, key) is not None
        except KernelError as error:
            if not error.retry:
                raise
            return False

    def object_name(self, scope: Scope, action: int, number: int) -> str | None:
        """Return what the object of an action is called; allow, deny and reject keep there which node ordered them."""
        if action in {Action.LIMIT, Action.SAMPLE} or not number or scope.vpc is None:
            return str(number) if number else None
        return next((name for name, node in scope.vpc.service_nodes.items() if node.id == number), str(number))

    def namespaces(self, name: str = "") -> Iterable[tuple[Namespace, list[Scope]]]:
        """Return the namespaces that a name means, each with its scopes."""
        found: dict[Namespace, list[Scope]] = {}
        for scope in self.scopes(name):
            found.setdefault(scope.ns, []).append(scope)
        return found.items()


def _engines(name: str, edge: Inline) -> Iterator[Scope]:
    for engine, section in edge.engines.items():
        ns = engine_namespace(name, edge, engine)
        yield Scope(f"{INLINE}{name}/{engine}", ns, inline_zone(edge.id, section.id), None, engine)
