"""The stateful firewall of a VPC: every guest's port has an ordered index into the rules of the VPC (design 0004).

Every guest's traffic is routed by the edge, also between guests of one host, so each flow is judged at the port of its
source and at that of its destination, where these stand on this host; both must allow it. Guests whose indexes are
equal are one group, and flows of one group's guests are one engine: what is judged again together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address

from appliance.model.errors import Finding, OperatorError
from appliance.model.facts import Engine, NftSet
from appliance.model.intent import Vpc
from appliance.model.marks import ACTION_MASK, ACTION_SHIFT, ENGINES, Action, engine_chain
from services.feature import Chain, EdgeParts, Runtime
from services.flows import program
from services.place import LAN, Place
from services.policy import Policy, policy
from services.rules.compile import RulesMultiplyError, Stages, compile_rules
from services.rules.rule import Match, RuleId

#: Engine of flows that have no guest of this host at either end.
NOBODY = 1
#: Groups beyond which it is not worth while to tell apart which rules of one group reach which other: all of them count.
MANY = 32
#: Decisions after which the port at the other end need not be asked.
_REFUSED = f"meta mark & {ACTION_MASK:#x} == {{ {Action.DENY << ACTION_SHIFT:#x}, {Action.REJECT << ACTION_SHIFT:#x} }}"
_PLAIN = f"meta mark & {ACTION_MASK:#x} == {Action.ALLOW << ACTION_SHIFT:#x}"
_DEFAULTS = ("internal", "inbound", "outbound")


@dataclass(frozen=True, slots=True)
class Group:
    """Guests of this host with one index.

    `engine` is 2 and more: the place of the group's first guest among all guests here, so that a guest that gets rules
    of its own changes the engine of no other.
    """

    engine: int
    order: tuple[RuleId, ...]
    guests: tuple[IPv4Address, ...]


def local(place: Place, vpc: Vpc) -> dict[str, IPv4Address]:
    """Return the guests that stand here, in order of name."""
    return {name: guest.address for name, guest in sorted(vpc.guests.items()) if guest.host == place.node}


def groups(place: Place, vpc: Vpc, rules: Policy) -> tuple[Group, ...]:
    """Gather guests by index; beyond the last engine, groups share engines and nothing else."""
    found: dict[tuple[RuleId, ...], tuple[int, list[IPv4Address]]] = {}
    for position, (name, address) in enumerate(local(place, vpc).items()):
        engine = NOBODY + 1 + position % (ENGINES - NOBODY)
        found.setdefault(rules.order(name), (engine, []))[1].append(address)
    return tuple(Group(engine, order, tuple(members)) for order, (engine, members) in found.items())


def compile_firewall(place: Place, vpc: Vpc, runtime: Runtime | None = None) -> EdgeParts:
    """Return the program that judges the flows of a VPC on one host."""
    rules = policy(place, vpc, (runtime or Runtime()).nodes_down)
    here = groups(place, vpc, rules)
    matches = {rule: rules.matches[rule] for group in here for rule in group.order}
    try:
        stages = _stages(tuple(sorted(matches.items())), tuple(group.order for group in here))
    except RulesMultiplyError as error:
        raise _multiply(place, rules, error) from error
    return EdgeParts.merge(
        (
            program.base(_slow(), rules.rates, links=bool(vpc.service_nodes)),
            program.rules({4: stages}, place.ns),
            *_indexes(place, rules, here, stages),
            _decide(place, vpc, rules, here),
            EdgeParts(facts=tuple(_engines(place, vpc, rules, here))),
        )
    )


@lru_cache(maxsize=256)
def _stages(matches: tuple[tuple[RuleId, Match], ...], orders: tuple[tuple[RuleId, ...], ...]) -> Stages:
    """Compile once what comes again each time a backend or a route changes: seconds, for ten thousand rules."""
    return compile_rules(dict(matches), orders)


def _multiply(place: Place, rules: Policy, error: RulesMultiplyError) -> OperatorError:
    """Say which rules of the intent cross so many others that they cannot be told apart cheaply."""
    (said,) = error.findings
    paths = (f"vpcs.{place.vpc}.firewall.rules.{rules.places[rule]}" for rule in error.rules)
    return OperatorError(tuple(Finding(0, 0, path, "crosses too many other rules", said.hint) for path in paths))


def _slow() -> tuple[str, ...]:
    return ("fib daddr type { local, broadcast, multicast } accept", "meta nfproto != ipv4 drop")


def _indexes(place: Place, rules: Policy, here: tuple[Group, ...], stages: Stages) -> Iterator[EdgeParts]:
    """One index a group, and empty ones where a group may come to be: the table need not be made anew for it."""
    for position in range(program.room(len(here))):
        order = here[position].order if position < len(here) else ()
        yield program.index({4: stages}, place.ns, _port(position), order, rules.words, "goto defaults")


def _port(position: int) -> str:
    return f"port{position}"


def _decide(place: Place, vpc: Vpc, rules: Policy, here: tuple[Group, ...]) -> EdgeParts:
    own = [(address, position, group) for position, group in enumerate(here) for address in group.guests]
    elements = {
        "local_guests": (str(address) for address, _, _ in own),
        "ports": (f"{address} : jump {_port(position)}" for address, position, _ in own),
        "engines": (f"{address} : goto {engine_chain(group.engine)}" for address, _, group in own),
        "defaults": (
            f"{number:#010x} : {program.word(_action(getattr(vpc.firewall, default))):#010x}"
            for number, default in enumerate(_DEFAULTS, 1)
        ),
    }
    again = (f"{_PLAIN} ct original ip saddr vmap @ports",) if rules.special else ()
    decide = (
        f'ct direction original iifname "{LAN}" ct original ip saddr != @local_guests counter name spoofed drop',
        f'ct direction original iifname "{place.uplink}" ct original ip saddr {vpc.subnet} counter name spoofed drop',
        "meta mark set 0",
        *program.instructions(),
        program.goto_decided("stamp"),
        "ct original ip saddr vmap @ports",
        f"{_REFUSED} goto stamp",
        "ct reply ip saddr vmap @ports",
        # Both ports allow it: what the source's port wants besides (a redirect, a limit) must not be lost.
        *again,
        "meta mark 0 jump defaults",
        "goto stamp",
    )
    stamp = (
        "ct reply ip saddr vmap @engines",
        "ct original ip saddr vmap @engines",
        f"goto {engine_chain(NOBODY)}",
    )
    used = program.room(len(local(place, vpc))) + NOBODY
    return EdgeParts(
        declarations=(
            "set local_guests { type ipv4_addr; }",
            "map ports { type ipv4_addr : verdict; }",
            "map engines { type ipv4_addr : verdict; }",
            "map defaults { type mark : mark; }",
        ),
        chains=(
            Chain("defaults", tuple(_defaults(vpc))),
            *program.engines(range(1, min(used, ENGINES) + 1)),
            Chain("stamp", stamp),
            Chain("decide", decide),
        ),
        sets=tuple(NftSet(place.ns, name, frozenset(values)) for name, values in elements.items()),
    )


def _action(default: str) -> Action:
    return Action.ALLOW if default == "allow" else Action.DENY


def _defaults(vpc: Vpc) -> Iterator[str]:
    yield "counter name unmatched"
    yield "meta mark set 1"
    yield f"ct original ip saddr != {vpc.subnet} meta mark set 2"
    yield f"ct original ip saddr {vpc.subnet} ct reply ip saddr != {vpc.subnet} meta mark set 3"
    yield "meta mark set meta mark map @defaults"


def _engines(place: Place, vpc: Vpc, rules: Policy, here: tuple[Group, ...]) -> Iterator[Engine]:
    """Name what each engine's flows are judged by: their own index, and what other ports send to their guests."""
    common = [str(vpc.subnet), *(getattr(vpc.firewall, default) for default in _DEFAULTS)]
    whole = {group.order: _digest(rules.digest[rule] for rule in group.order) for group in here}
    sent = {
        group.order: [r for r in group.order if any(rules.leaves(r, guest) for guest in group.guests)] for group in here
    }
    members: dict[int, list[Group]] = {NOBODY: []}
    for group in here:
        members.setdefault(group.engine, []).append(group)
    for number, sharing in sorted(members.items()):
        parts = list(common)
        for group in sharing:
            parts += [whole[group.order], *map(str, sorted(group.guests))]
            senders: dict[str, list[IPv4Address]] = {}
            for other in here:
                if other is not group:
                    towards = whole[other.order] if len(here) > MANY else _towards(rules, sent[other.order], group)
                    senders.setdefault(towards, []).extend(other.guests)
            parts += [f"{rule} {sorted(guests)}" for rule, guests in sorted(senders.items())]
        yield Engine(place.ns, number, _digest(parts))


def _towards(rules: Policy, sent: Iterable[RuleId], group: Group) -> str:
    """Name those of the rules by which others send that can match flows to a group's guests."""
    return _digest(rules.digest[r] for r in sent if any(rules.reaches(r, guest) for guest in group.guests))


def _digest(parts: Iterable[str]) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()
