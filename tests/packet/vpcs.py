r"""A VPC's edge on one host with guests and an outside, in namespaces: what packet tests of the stateful core stand on.

    guest r1 --- tap11 \                                    / client 198.51.100.2
    guest r2 --- tap12 --- namespace vpc-red --- host h1 ---
    guest r3 --- tap13 /      172.16.1.0/24                  \ routes for public addresses by hand

The edge is driven as the daemon drives it: facts from the compile, the reconciler, the real ports. BGP is left out: the
host has a static route to every public address.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from appliance.control.reconcile import Outcome, Reconciler
from appliance.kernel.kernel import Kernel
from appliance.kernel.namespaces import Namespaces
from appliance.model.facts import HOST, Advertisement, Fact, FlowKey, Instruction, Namespace
from appliance.model.marks import Action, Mark, vpc_zone
from appliance.state.diff import Change, Plan
from services.edge import compile_edge
from services.feature import Runtime
from services.place import Place
from tests.packet.rows import real_kernel
from tests.support.intents import Tree, guest, intent, pair

if TYPE_CHECKING:
    from appliance.kernel.conntrack_codec import CtEntry
    from appliance.model.intent import Intent
    from tests.contract.worlds import World
    from tests.support.namespaces import Namespaces as Factory

#: Inside `Box` the word is a method.
Socket = socket.socket

CLIENT, OUTSIDE = "198.51.100.2", "198.51.100.1"
RED = Namespace("vpc-red")
ZONE = vpc_zone(101)


def vpc(*rules: Tree, guests: int = 3, **more: Any) -> Tree:
    """Return an intent: VPC red with guests r1, r2... on h1 (172.16.1.11...), and these rules.

    Other sections of the VPC by name: `firewall` is joined with the rules, `vips=`, `groups=`, `service_nodes=`...
    """
    tree = pair()
    firewall = {"rules": list(rules)} | more.pop("firewall", {})
    there = {f"r{n}": guest("h1", 10 + n) for n in range(1, guests + 1)}
    red = {"id": 101, "subnet": "172.16.1.0/24", "guests": there, "firewall": firewall}
    tree["vpcs"] = {"red": red | {key.replace("_", "-"): value for key, value in more.items()}}
    return tree


def address(name: str) -> str:
    """Return a guest's address, or the client's."""
    return CLIENT if name == "client" else f"172.16.1.{10 + int(name[1:])}"


@dataclass
class Box:
    """The host, its edge, guests and a client."""

    world: World
    factory: Factory
    kernel: Kernel
    facts: frozenset[Fact] = frozenset()
    intent: Intent | None = None
    names: dict[str, str] = field(default_factory=dict)
    machines: Namespaces = field(default_factory=Namespaces)
    _instructed: dict[FlowKey, Instruction] = field(default_factory=dict)
    _public: set[str] = field(default_factory=set)
    _closing: list[Callable[[], object]] = field(default_factory=list)

    # -- the edge -----------------------------------------------------------------------------------------------------

    def apply(self, wanted: Tree | Intent, runtime: Runtime | None = None) -> Outcome:
        """Lead the kernel to an intent, at the cost of the difference."""
        self.intent = intent(wanted) if isinstance(wanted, dict) else wanted
        edge = compile_edge(self.intent, "h1", "red", runtime or Runtime())
        old, self.facts = self.facts, frozenset(edge.facts)
        reconciler = Reconciler(self.kernel.ports)
        outcome = reconciler.move(old, self.facts) if old else reconciler.apply(self.facts)
        assert outcome.pending == ()
        if not old:
            self._wire(edge.advertisements)
        self._routes(edge.advertisements)
        return outcome

    def _wire(self, _: tuple[Advertisement, ...]) -> None:
        self.run("host", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.machine("client")
        host = str(self.world.path(HOST))
        self.run("client", "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "outside", "netns", host)
        for line in (f"address add {CLIENT}/24 dev eth0", "link set eth0 up", f"route add default via {OUTSIDE}"):
            self.run("client", "ip", *line.split())
        self.run("host", "ip", "address", "add", f"{OUTSIDE}/24", "dev", "outside")
        self.run("host", "ip", "link", "set", "outside", "up")

    def _routes(self, advertisements: tuple[Advertisement, ...]) -> None:
        """Do what BGP and composed destinations do in a zone: bring public addresses to the VPC."""
        assert self.intent is not None
        place = Place.of(self.intent, "h1", "red")
        snat = self.intent.vpcs["red"].snat
        wanted = {str(a.prefix) for a in advertisements if a.kind == "vip"} | (
            {f"{snat.address}/32"} if snat else set()
        )
        for prefix in wanted - self._public:
            self.run("host", "ip", "route", "replace", prefix, "via", str(place.uplink_address))
        self._public |= wanted

    def plug(self, name: str, *more: str) -> None:
        """Put a guest's cable in: its device, address and default route."""
        self.machine(name)
        host = str(self.world.path(HOST))
        self.run(
            name, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", f"tap{10 + int(name[1:])}", "netns", host
        )
        for line in (
            f"address add {address(name)}/24 dev eth0",
            "link set eth0 up",
            "route add default via 172.16.1.1",
        ):
            self.run(name, "ip", *line.split())
        for line in more:
            self.run(name, *line.split())

    def instruct(self, flow: FlowKey, action: Action | None, number: int = 0) -> None:
        """Give an instruction for a flow, or take it back."""
        old = self._instructed.pop(flow, None)
        new = None if action is None else Instruction(RED, flow, action, number)
        if new is not None:
            self._instructed[flow] = new
        change: Change[Any] = Change("delete" if new is None else "create" if old is None else "update", old, new)
        assert self.kernel.ports["nft"].apply(Plan((change,))) == ()

    def record(self, flow: FlowKey) -> CtEntry | None:
        """Return the live record of a flow."""
        return self.kernel.conntrack.get(RED, flow)

    def mark(self, flow: FlowKey) -> Mark:
        """Return the mark of a live flow."""
        entry = self.record(flow)
        assert entry is not None, f"no record of {flow}"
        return Mark.of(entry.mark)

    def counters(self) -> dict[str, int]:
        """Return packets by named counter."""
        return {name: packets for name, (packets, _) in self.kernel.ports["nft"].counters(RED).items()}  # type: ignore[attr-defined]

    # -- machines and traffic -----------------------------------------------------------------------------------------

    def machine(self, name: str) -> str:
        """Make a machine's namespace; return its name."""
        if name not in self.names:
            self.names[name] = self.factory(name)
        return self.names[name]

    def run(self, name: str, *command: str) -> str:
        """Run a command on a machine, or on the host or in the edge."""
        if name in {"host", "edge"}:
            return self.world.run(HOST if name == "host" else RED, *command)
        full = ("ip", "netns", "exec", self.names[name], *command)
        done = subprocess.run(full, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def socket(self, name: str, *kind: Any) -> Socket:
        """Make a socket on a machine; it is closed with the box."""
        with self.machines.in_namespace(Namespace(self.names[name])):
            made = socket.socket(*kind)
        made.settimeout(5)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._closing.append(made.close)
        return made

    def listen(self, name: str, port: int) -> Socket:
        """Listen with TCP."""
        made = self.socket(name, socket.AF_INET, socket.SOCK_STREAM)
        made.bind(("0.0.0.0", port))
        made.listen(128)
        return made

    def udp(self, name: str, port: int) -> Socket:
        """Bind a UDP socket to a port."""
        made = self.socket(name, socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("0.0.0.0", port))
        return made

    def connect(self, name: str, port: int, to: tuple[str, int], patience: float = 5) -> Socket | None:
        """Connect with TCP from a port; None when nobody answers or somebody refuses."""
        made = self.socket(name, socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.settimeout(patience)
        made.bind((address(name), port))
        try:
            made.connect(to)
        except OSError:
            made.close()
            return None
        made.settimeout(10)
        return made

    def close(self) -> None:
        """Take everything away."""
        for close in self._closing:
            with suppress(OSError):
                close()
        self.machines.close()


def flow(source: str, source_port: int, destination: str, port: int, protocol: int = socket.IPPROTO_TCP) -> FlowKey:
    """Name a flow of the VPC; guests and the client by name."""
    ends = [IPv4Address(end if end[0].isdigit() else address(end)) for end in (source, destination)]
    return FlowKey(ends[0], source_port, ends[1], port, protocol, ZONE)


@contextmanager
def box(world: World, factory: Factory) -> Iterator[Box]:
    """Give a host without an edge; the edge's namespaces are gone afterwards."""
    with real_kernel(world) as kernel:
        made = Box(world, factory, kernel)
        try:
            yield made
        finally:
            made.close()
