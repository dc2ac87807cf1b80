"""What a policy does to flows, read from the intent as a person would, and random walks that hold an edge to it.

The law (design 0004): no packet is ever handled by an action older than the last change that was acknowledged. A walk
changes rules, groups, defaults and tiers, kills service nodes, instructs single flows, and sends packets of flows that
live long and of flows that are new, while a crowd of packets of the same flows is on its way all the time. After each
acknowledgement it looks at all records, after each packet at its fate.
"""

from __future__ import annotations

import copy
import random
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Any, Final

from appliance.model.intent import Intent
from appliance.model.marks import Action, Mark
from appliance.model.verify import verify
from services.feature import Runtime
from tests.packet.probes import ICMP, SENTINEL, TCP, UDP, End, Probes, Talk
from tests.packet.vpcs import RED, Box, address, vpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from appliance.model.facts import FlowKey
    from tests.packet.probes import Direction
    from tests.support.intents import Tree

NODE: Final = 3
VIP: Final[End] = (IPv4Address("203.0.113.80"), 80)
GUESTS: Final = ("r1", "r2", "r3", "r4")
#: First of all rules, at every port: what tells that a packet before it was judged.
LET_THROUGH: Final[Tree] = {"action": "allow", "protocol": "udp", "ports": [SENTINEL], "tier": "emergency"}
_TIERS: Final = ("emergency", "infrastructure", "application")
_PROTOCOLS: Final = {"tcp": TCP, "udp": UDP, "icmp": ICMP}
_REFUSED: Final = frozenset({Action.DENY, Action.REJECT})
#: What lives longer in this test than in the product: a machine that does something else is no failure.
_PATIENCE: Final = (
    *(f"{each}_timeout=600" for each in ("udp", "icmp")),
    *(f"tcp_timeout_{each}=600" for each in ("syn_sent", "syn_recv", "close", "unacknowledged", "max_retrans")),
)


@dataclass(frozen=True)
class Model:
    """An intent's VPC, service nodes that are dead, and instructions: all that decides about a flow."""

    vpc: Tree
    dead: frozenset[str] = frozenset()
    instructions: dict[FlowKey, tuple[Action, int]] = field(default_factory=dict)

    def verdict(self, talk: Talk) -> tuple[Action, int | None]:
        """Return what is done with the packets of a flow, and to which service node (None: it does not matter)."""
        if talk.key in self.instructions:
            return self.instructions[talk.key]
        ends = (str(talk.key.source), str(talk.target[0]))
        said = [self._port(guest, talk) for end in ends for guest in GUESTS if address(guest) == end]
        for word in said:
            if word[0] in _REFUSED:
                return word
        return next((word for word in reversed(said) if word[0] is not Action.ALLOW), (Action.ALLOW, None))

    def _port(self, guest: str, talk: Talk) -> tuple[Action, int | None]:
        """Return what the rules at a guest's port say."""
        rules = sorted(self.vpc["firewall"]["rules"], key=lambda each: _TIERS.index(each.get("tier", "application")))
        for rule in rules:
            at = rule.get("applies-to", [])
            if (not at or guest in self._members(at)) and self._matches(rule, talk):
                return self._does(rule)
        return Action[self.vpc["firewall"][self._direction(talk)].upper()], None

    def _does(self, rule: Tree) -> tuple[Action, int | None]:
        if rule["action"] != "redirect":
            return Action[rule["action"].upper()], None
        node = self.vpc["service-nodes"][rule["to"]]
        return (Action[node["on-failure"].upper()], None) if rule["to"] in self.dead else (Action.REDIRECT, node["id"])

    def _direction(self, talk: Talk) -> str:
        if not self._inside(talk.key.source):
            return "inbound"
        return "internal" if self._inside(talk.target[0]) else "outbound"

    def _inside(self, end: Any) -> bool:
        return end in IPv4Network(self.vpc["subnet"])

    def _members(self, terms: list[str]) -> list[str]:
        return [member for term in terms for member in self.vpc.get("groups", {}).get(term, [term])]

    def _matches(self, rule: Tree, talk: Talk) -> bool:
        protocol, port = rule.get("protocol", "any"), talk.target[1]
        spans = [str(each).partition("-") for each in rule.get("ports", [])]
        return (
            self._names(rule.get("source", []), talk.key.source)
            and self._names(rule.get("destination", []), talk.target[0])
            and protocol in ("any", next(name for name, number in _PROTOCOLS.items() if number == talk.key.protocol))
            and (not spans or any(int(low) <= port <= int(high or low) for low, _, high in spans))
        )

    def _names(self, terms: list[str], end: Any) -> bool:
        return not terms or any(self._is(member, end) for member in self._members(terms))

    def _is(self, member: str, end: Any) -> bool:
        if member == "outside":
            return not self._inside(end)
        return end in IPv4Network(address(member) if member in GUESTS else member)


def read(tree: Tree) -> Intent:
    """Take a tree for an intent without the detour through text, which takes most of the time of a commit."""
    made = Intent.model_validate(tree)
    assert tuple(verify(made)) == ()
    return made


class Policies:
    """A policy that changes at random."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.rules: list[Tree] = [self._rule() for _ in range(4)]
        self.defaults = dict.fromkeys(("inbound", "outbound", "internal"), "allow")
        self.groups = {"some": ["r1", "r3"], "net": ["172.16.1.12/31", "198.51.100.0/25"], "nobody": ["r4"]}
        self.on_failure = "allow"
        self.dead: frozenset[str] = frozenset()

    def tree(self) -> Tree:
        """Return the intent of now."""
        node = {"id": NODE, "host": "h1", "interface": "sn3", "link": "10.9.0.0/31", "on-failure": self.on_failure}
        web = {"address": str(VIP[0]), "port": VIP[1], "target-port": 8080, "backends": ["r2"]}
        made = vpc(
            LET_THROUGH,
            *self.rules,
            guests=len(GUESTS),
            firewall=self.defaults,
            groups=self.groups,
            vips={name: web | {"protocol": name} for name in ("tcp", "udp")},
            service_nodes={"ids": node},
        )
        return copy.deepcopy(made)

    def change(self) -> str:
        """Change a few things; return what."""
        ways: list[Callable[[], str]] = [self._add] * 4 + [self._alter] * 4 + [self._group] * 2
        ways += [self._remove] * 3 + [self._default] * 2 + [self._node] * 2 + [self._failure]
        return "; ".join(self._dice.choice(ways)() for _ in range(self._dice.choice((1, 2, 3))))

    def _rule(self) -> Tree:
        inside = [*GUESTS, *GUESTS, "some", "172.16.1.0/24"]
        anywhere = [*inside, "net", "nobody", "outside", "0.0.0.0/0"]
        action = self._dice.choice(("allow", "deny", "deny", "reject", "redirect", "redirect", "limit", "sample"))
        made: Tree = {"action": action, "tier": self._dice.choice(_TIERS)}
        for side in ("source", "destination"):
            # Mostly narrow: a rule for everybody would hide those behind it.
            count = self._dice.choice((1, 1, 2) if action == "redirect" else (0, 1, 1, 2, 2))
            made[side] = self._dice.sample(inside if action == "redirect" else anywhere, count)
        made["protocol"] = self._dice.choice(("any", "any", "tcp", "udp", "icmp"))
        if made["protocol"] in {"tcp", "udp"}:
            made["ports"] = self._dice.sample(["53", "80", "53-79", "8080"], self._dice.randint(0, 2))
        made["applies-to"] = self._dice.choice(([], [], [], ["r1"], ["some"], ["r2", "r4"], ["nobody"]))
        extra: Tree = {"redirect": {"to": "ids"}, "limit": {"rate": 1_000_000}, "sample": {"rate": 1_000_000}}
        return made | extra.get(action, {})

    def _add(self) -> str:
        made = self._rule()
        if len(self.rules) >= 6:
            self._remove()
        self.rules.insert(self._dice.randint(0, len(self.rules)), made)
        return f"rule {made}"

    def _alter(self) -> str:
        if not self.rules:
            return self._add()
        if self._dice.random() < 0.2:
            self.rules.insert(0, self.rules.pop())
            return "the last rule first"
        place = self._dice.randrange(len(self.rules))
        fresh = self._rule()
        if self._dice.random() < 0.3:
            self.rules[place] = fresh
        else:
            name = self._dice.choice(("tier", "applies-to"))
            self.rules[place] = self.rules[place] | {name: fresh[name]}
        return f"rule {place} is {self.rules[place]}"

    def _remove(self) -> str:
        if not self.rules:
            return self._add()
        return f"without {self.rules.pop(self._dice.randrange(len(self.rules)))}"

    def _default(self) -> str:
        side = self._dice.choice(tuple(self.defaults))
        self.defaults[side] = self._dice.choice(("allow", "deny"))
        return f"{side} {self.defaults[side]}"

    def _group(self) -> str:
        name = self._dice.choice(("some", "some", "nobody", "net"))
        members = ["172.16.1.0/27", "198.51.100.0/24", "r3", "r4"] if name == "net" else list(GUESTS)
        self.groups[name] = self._dice.sample(members, self._dice.randint(0, 3))
        return f"group {name} {self.groups[name]}"

    def _node(self) -> str:
        self.dead = frozenset({"ids"}) - self.dead
        return f"dead nodes: {sorted(self.dead)}"

    def _failure(self) -> str:
        self.on_failure = self._dice.choice(("allow", "deny"))
        return f"on-failure {self.on_failure}"


class Crowd:
    """A thread that sends packets of live flows all the time: one is on its way in each moment that matters."""

    def __init__(self, probes: Probes, pause: float = 0.0003) -> None:
        self._probes, self._stop, self._pause = probes, threading.Event(), pause
        self.talks: list[tuple[Talk, Direction]] = []
        self.sent = 0
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            for talk, direction in tuple(self.talks):
                packet, to = talk.packet(direction)
                self._probes.machines[talk.machine(direction)].out.sendto(packet, (to, 0))
                self.sent += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send, and stop whatever happens."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()


class Walk:
    """One walk: what is so, what was sent, and what must never come in."""

    def __init__(self, box: Box, seed: int) -> None:
        self.box, self._dice = box, random.Random(seed)
        self.policies = Policies(self._dice)
        self.instructions: dict[FlowKey, tuple[Action, int]] = {}
        self._ports = iter(range(20_000, 60_000))
        self.told: deque[str] = deque(maxlen=25)
        self.done = {"commits": 0, "instructions": 0, "passed": 0, "refused": 0}
        self._forbidden: dict[tuple[str, int], str] = {}
        for name in GUESTS:
            box.plug(name)
        self._plug_node()
        self._commit()
        self.probes = Probes(box, *GUESTS, "client")
        self._prepare()
        self.talks = [self._talk() for _ in range(10)]
        #: All there ever were, by the tuple of their records.
        self.ever = {talk.key: talk for talk in self.talks}
        self.crowd = Crowd(self.probes)

    # -- the stage ----------------------------------------------------------------------------------------------------

    def _plug_node(self) -> None:
        """Make a service node that sends back what it gets."""
        box = self.box
        box.machine("ids")
        host = str(box.world.host)
        box.run("ids", "ip", "link", "add", "e0", "type", "veth", "peer", "name", "sn3", "netns", host)
        for setting in ("ip_forward=1", "conf.all.rp_filter=0", "conf.e0.rp_filter=0", "conf.all.send_redirects=0"):
            box.run("ids", "sysctl", "-qw", f"net.ipv4.{setting}")
        box.run("ids", "sysctl", "-qw", "net.ipv4.conf.e0.send_redirects=0")
        for line in ("address add 10.9.0.1/31 dev e0", "link set e0 up", "route add default via 10.9.0.0"):
            box.run("ids", "ip", *line.split())

    def _prepare(self) -> None:
        """Lead the outside to guests without translation, and have everybody know each other."""
        for setting in _PATIENCE:
            self.box.run("edge", "sysctl", "-qw", f"net.netfilter.nf_conntrack_{setting}")
        self.box.run("host", "ip", "route", "replace", "172.16.1.0/24", "via", "100.64.0.203")
        for one in self.probes.machines:
            for other in self.probes.machines:
                if one != other:
                    self.probes.send(Talk.of(one, SENTINEL, other, SENTINEL, UDP), "there")

    def _talk(self) -> Talk:
        """Begin a flow of which nobody has heard."""
        source, destination = self._dice.sample((*GUESTS, "client"), 2)
        protocol = self._dice.choice((UDP, UDP, TCP, TCP, ICMP))
        port = self._dice.choice((53, 80, 8080))
        if (source, protocol) in {("client", UDP), ("client", TCP)} and self._dice.random() < 0.5:
            return Talk.of(source, next(self._ports), "r2", 8080, protocol, VIP)
        return Talk.of(source, next(self._ports), destination, port, protocol)

    # -- steps --------------------------------------------------------------------------------------------------------

    def run(self, steps: int) -> None:
        """Walk, with a crowd around."""
        with self.crowd.running():
            for _ in range(steps):
                self.step()
        self.probes.settle()
        self._nothing_forbidden()
        self._check_records()

    def step(self) -> None:
        """Do one thing, and look."""
        kind = self._dice.choices(("packet", "commit", "instruct", "begin"), (60, 17, 17, 6))[0]
        if kind == "packet":
            self._packet(self._dice.choice(self.talks), self._dice.choice(("there", "back")))
            return
        if kind == "commit":
            self.told.append(f"commit: {self.policies.change()}")
            self._commit()
        elif kind == "instruct":
            self._instruct(self._dice.choice(self.talks))
        else:
            place = self._dice.randrange(len(self.talks))
            self.talks[place] = made = self._talk()
            self.ever[made.key] = made
            self.told.append(f"begin: {made.key}")
        self._check_records()

    @property
    def model(self) -> Model:
        """What is so now."""
        return Model(self.tree["vpcs"]["red"], self.policies.dead, self.instructions)

    def _commit(self) -> None:
        self.tree = self.policies.tree()
        down = frozenset(("red", name) for name in self.policies.dead)
        self.box.apply(read(self.tree), Runtime(nodes_down=down))
        self.done["commits"] += 1

    def _instruct(self, talk: Talk) -> None:
        words = [Action.DENY, Action.DENY, Action.ALLOW, Action.REJECT, None]
        # What is translated must not go through a node: it would not come back as it went.
        inside = str(talk.key.source) != address("client") != str(talk.target[0])
        word = self._dice.choice([*words, Action.REDIRECT] if inside else words)
        self.told.append(f"instruct: {talk.key} {word and word.name}")
        if word is None and talk.key not in self.instructions:
            return
        number = NODE if word is Action.REDIRECT else 0
        self.box.instruct(talk.key, word, number)
        self.instructions.pop(talk.key, None)
        if word is not None:
            self.instructions[talk.key] = (word, number or None)  # type: ignore[assignment]
        self.done["instructions"] += 1

    def _packet(self, talk: Talk, direction: Direction) -> None:
        if self.box.record(talk.key) is None:
            talk.begin_again()
            direction = "there"
        direction = talk.next(direction)
        said, _ = self.model.verdict(talk)
        self.told.append(f"packet: {talk.key} {direction}, to {said.name}")
        receiver = talk.machine("back" if direction == "there" else "there")
        number = self.probes.send(talk, direction)
        if said in _REFUSED:
            self._forbidden[receiver, number] = self.told[-1]
            if said is Action.REJECT and talk.key.protocol == TCP:
                port = talk.key.source_port if direction == "there" else talk.target[1]
                assert self.probes.was_reset(talk.machine(direction), port), (
                    "a rejected segment was answered by a reset"
                )
            self.done["refused"] += 1
        else:
            arrival = self.probes.arrival(receiver, number)
            assert arrival.ttl == 64 - self._hops(talk, said), "the way of a packet, told by the routers that it passed"
            talk.arrived(direction)
            assert self.box.record(talk.key) is not None, "what passes has a record"
            self.done["passed"] += 1
        self._nothing_forbidden()
        self._check(talk, current=True)
        self._join(talk)

    def _hops(self, talk: Talk, said: Action) -> int:
        outside = address("client") in {str(talk.key.source), str(talk.target[0])}
        return 1 + outside + 2 * (said is Action.REDIRECT)

    def _join(self, talk: Talk) -> None:
        """Have the crowd send packets of a flow: of a connection once it is made, answers once it has a record."""
        ready = {(other.key, way) for other, way in self.crowd.talks}
        known = {talk.key for talk in self.talks}
        crowd = [(other, way) for other, way in self.crowd.talks if other.key in known]
        ways: list[Direction] = ["there", "back"] if self.box.record(talk.key) is not None else ["there"]
        if talk.key.protocol != TCP or talk.shaken == 3:
            crowd += [(talk, way) for way in ways if (talk.key, way) not in ready]
        self.crowd.talks = crowd

    # -- what must be so ----------------------------------------------------------------------------------------------

    def _nothing_forbidden(self) -> None:
        for (name, number), what in self._forbidden.items():
            assert number not in self.probes.seen[name], f"arrived, whatever came before: {what}"

    def _check_records(self) -> None:
        """No record carries the current generation with another action than the model's, whoever stamped it."""
        for talk in self.ever.values():
            self._check(talk, current=False)

    def _check(self, talk: Talk, *, current: bool) -> None:
        """Look at a record; `current`: it was judged since the last change."""
        entry = self.box.record(talk.key)
        if entry is None:
            return
        mark, generations = Mark.of(entry.mark), self.box.kernel.ports["nft"].generations(RED)  # type: ignore[attr-defined]
        live = mark.generation == generations.get(mark.engine)
        assert live or not current, f"{talk.key} carries {mark}, and generations are {generations}"
        said, node = self.model.verdict(talk)
        assert not live or mark.action == said, f"{talk.key} carries {mark}, but {said.name} is right"
        assert not live or node is None or mark.object == node, f"{talk.key} carries {mark}, but goes through {node}"
