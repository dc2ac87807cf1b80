"""What a VPC's edge does with one flow, said in the order in which its program does it (design 0004). Pure.

The second reading of what `services.firewall` writes for the kernel: rules one after the other instead of regions and
hashes. `appliance.control.flow_desk` gathers the facts and asks; tests hold both readings to each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, Literal

from appliance.model.facts import Address, FlowKey
from appliance.model.intent import Guest, Vpc
from appliance.model.marks import ACTION_MASK, ACTION_SHIFT, OBJECT_MASK, Action
from appliance.model.policy import Rule
from services.balance import healthy_backends
from services.feature import Runtime
from services.firewall import NOBODY, Group, groups
from services.flows.program import word
from services.nat import own_blocks
from services.place import LAN, OVERLAY_DEVICE, Place
from services.policy import Policy, policy
from services.rules.rule import Packet, RuleId

End = Literal["source", "destination", "neither"]
_NAMES: Final = {6: "tcp", 17: "udp", 1: "icmp"}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a flow goes after destination translation, and why."""

    address: Address
    port: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the port of one guest says to a flow: the rule that matched and its place from 1, or the default."""

    guest: str
    end: End
    word: int
    rule: RuleId | None = None
    position: int | None = None
    default: str = ""

    @property
    def action(self) -> Action:
        """What is decided."""
        return Action((self.word & ACTION_MASK) >> ACTION_SHIFT)

    @property
    def refused(self) -> bool:
        """Whether the port at the other end need not be asked."""
        return self.action in {Action.DENY, Action.REJECT}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is decided about a flow when its next packet is judged, and by whom.

    `refusal` says why it does not come to a judgement; then the rest means nothing. `decided` is None if an instruction
    decides: the ports were asked all the same, for who reads.
    """

    engine: int
    action: Action = Action.DENY
    object: int = 0
    decided: Asked | None = None
    asked: tuple[Asked, ...] = ()
    refusal: str = ""


@dataclass(frozen=True)
class Edge:
    """One VPC on this host: its rules, and which guests are one engine."""

    place: Place
    vpc: Vpc
    runtime: Runtime
    rules: Policy
    groups: tuple[Group, ...]

    @classmethod
    def of(cls, place: Place, vpc: Vpc, runtime: Runtime) -> Edge:
        """Read the intent as the compile does."""
        rules = policy(place, vpc, runtime.nodes_down)
        return cls(place, vpc, runtime, rules, groups(place, vpc, rules))

    def guest(self, address: Address) -> tuple[str, Guest] | None:
        """Return who has an address, wherever it stands."""
        return next(((name, guest) for name, guest in self.vpc.guests.items() if guest.address == address), None)

    def here(self, address: Address) -> str | None:
        """Return the name of the guest of this host that has an address."""
        found = self.guest(address)
        return found[0] if found is not None and found[1].host == self.place.node else None

    def arrival(self, source: Address) -> str:
        """Return the device by which first packets of a source come in; nobody's address is said to be on the LAN."""
        if not self._inside(source):
            return self.place.uplink
        found = self.guest(source)
        return LAN if found is None or found[1].host == self.place.node else OVERLAY_DEVICE

    def targets(self, key: FlowKey) -> tuple[Target, ...]:
        """Return where a first packet may be sent: which backend of a VIP it gets, only the kernel knows."""
        return tuple(self._translated(key)) or (Target(key.destination, _port(key)),)

    def _translated(self, key: FlowKey) -> Iterator[Target]:
        for name, guest in self.vpc.guests.items():
            if guest.public == key.destination and guest.host == self.place.node:
                yield Target(guest.address, _port(key), f"public address of {name}")
                return
        for name, vip in self.vpc.vips.items():
            if (vip.address, vip.port, vip.protocol) != (key.destination, key.destination_port, protocol(key)):
                continue
            for backend in healthy_backends(self.place, self.vpc, vip, self.runtime.down):
                address, port = self.vpc.guests[backend].address, vip.target_port or vip.port
                yield Target(address, port, f"VIP {name}, backend {backend}")

    def translated_source(self, key: FlowKey, target: Target, came: str, leaves: str) -> str:
        """Say what the source becomes when a first packet leaves by a device; empty if it stays."""
        if came == leaves == LAN and target.why:
            return f"{self.vpc.gateway_address}: a guest calls an address of its own VPC"
        if leaves != self.place.uplink or not self._inside(key.source):
            return ""
        found = self.guest(key.source)
        if found is not None and found[1].public is not None and found[1].host == self.place.node:
            return f"{found[1].public}: public address of {found[0]}"
        nat = self.vpc.snat
        if nat is None or key.protocol not in _NAMES:
            return ""
        blocks = own_blocks(nat, self.place.slot, self.place.slots)
        held = [index for index in self.runtime.blocks.get(self.place.vpc, ()) if 0 <= index < len(blocks)]
        low = blocks[held[-1] if held else 0]
        return f"{nat.address}, one of its ports {low}-{low + nat.block - 1}"

    def judge(self, key: FlowKey, target: Target, came: str, instruction: tuple[Action, int] | None) -> Judgement:
        """Decide about a flow as the program does; `came` is the device that its first packet came in by."""
        engine = self._engine(key, target)
        if refusal := self.refusal(key, came):
            return Judgement(engine, refusal=refusal)
        asked = tuple(self._ask(key, target))
        if instruction is not None:
            return Judgement(engine, *instruction, None, asked)
        decided = asked[-1]
        if len(asked) > 1 and self.rules.special and decided.word == word(Action.ALLOW):
            # Both ports allow it: what the source's port wants besides must not be lost.
            decided = asked[0]
        return Judgement(engine, decided.action, decided.word & OBJECT_MASK, decided, asked)

    def refusal(self, key: FlowKey, came: str) -> str:
        """Say why a first packet is not even judged, if it is not."""
        if key.source.version != 4:  # noqa: PLR2004 - the IP version
            return "the edge: VPCs carry IPv4 only"
        if came == LAN and self.here(key.source) is None:
            return f"spoofed source: {key.source} is no guest of {self.place.node}"
        if came == self.place.uplink and self._inside(key.source):
            return f"spoofed source: {key.source} is of the VPC and cannot come from outside"
        return ""

    def _ask(self, key: FlowKey, target: Target) -> Iterator[Asked]:
        """Ask the ports in the order of the program."""
        packet = Packet(int(key.source), int(target.address), key.protocol, target.port)
        source, destination = self.here(key.source), self.here(target.address)
        if source is not None:
            said = self._port_says(source, "source", packet, key, target)
            yield said
            if said.refused:
                return
        if destination is not None:
            yield self._port_says(destination, "destination", packet, key, target)
        if source is None and destination is None:
            yield self._default("", "neither", key, target)

    def _port_says(self, guest: str, end: End, packet: Packet, key: FlowKey, target: Target) -> Asked:
        for position, rule in enumerate(self.rules.order(guest), 1):
            if self.rules.matches[rule].covers(packet):
                return Asked(guest, end, self.rules.words[rule], rule, position)
        return self._default(guest, end, key, target)

    def _default(self, guest: str, end: End, key: FlowKey, target: Target) -> Asked:
        name: Literal["inbound", "outbound", "internal"] = "internal"
        if not self._inside(key.source):
            name = "inbound"
        elif not self._inside(target.address):
            name = "outbound"
        action = Action.ALLOW if getattr(self.vpc.firewall, name) == "allow" else Action.DENY
        return Asked(guest, end, word(action), default=name)

    def _engine(self, key: FlowKey, target: Target) -> int:
        """Return the engine whose generation the record gets: that of the destination, else of the source."""
        for address in (target.address, key.source):
            found = next((group.engine for group in self.groups if address in group.guests), None)
            if found is not None:
                return found
        return NOBODY

    def _inside(self, address: Address) -> bool:
        return isinstance(address, IPv4Address) and address in self.vpc.subnet

    def unlike(self, rule: Rule) -> str:
        """Say why a redirect does not redirect, if it does not."""
        if rule.to is None:
            return ""
        node = self.vpc.service_nodes[rule.to]
        if node.host != self.place.node:
            return f"service node {rule.to} stands on {node.host}"
        down = (self.place.vpc, rule.to) in self.runtime.nodes_down
        return f"service node {rule.to} does not answer: on-failure {node.on_failure}" if down else ""


def protocol(key: FlowKey) -> str:
    """Name the protocol of a flow as rules do."""
    return _NAMES.get(key.protocol, str(key.protocol))


def _port(key: FlowKey) -> int:
    """Return the port that rules are asked for: conntrack has the identifier of an echo there."""
    return key.source_port if key.protocol == 1 else key.destination_port


def rule_text(rule: Rule) -> str:
    """Write a rule as one line, without who has it."""
    words: list[str] = [rule.action]
    if rule.rate is not None:
        words.append(f"{rule.rate}/s" if rule.action == "limit" else f"1 of {rule.rate}")
    words += [rule.protocol] if rule.protocol != "any" else []
    for word_, terms in (("from", rule.source), ("to", rule.destination)):
        words += [word_, ",".join(terms)] if terms else []
    words += ["ports", ",".join(rule.ports)] if rule.ports else []
    words += ["through", rule.to] if rule.to is not None else []
    return " ".join(words) if len(words) > 1 else f"{rule.action} anything"
