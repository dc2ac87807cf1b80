"""An inline edge between two rows of routers, in namespaces: what packet tests of inline edges stand on.

Each wire has a router's port on either side. The edge is driven as the daemon drives it: facts from the compile, the
reconciler, the real ports; never by hand.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.control.reconcile import Outcome, Reconciler
from appliance.kernel.kernel import Kernel
from appliance.kernel.links import LinksPort
from appliance.kernel.namespaces import SO_RCVBUFFORCE, Namespaces
from appliance.model.facts import HOST, Fact, Link, Namespace
from services.inline.compile import Held, compile_inline
from services.inline.mirror import Mirror
from tests.support.intents import Tree, intent, pair
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from appliance.kernel.conntrack_codec import CtEntry
    from tests.contract.worlds import World
    from tests.support.namespaces import Namespaces as Factory

ETH_P_ALL = 3
FORMS = ("inside", "apart")


def tree(form: str, wires: dict[str, str], **engines: Tree) -> Tree:
    """Return an intent with one edge: wires `a` -> engine; ports na, sa on host h1."""
    made = pair()
    bridges = {name: {"north": f"n{name}", "south": f"s{name}", "engine": engine} for name, engine in wires.items()}
    made["inline"] = {"dmz": {"id": 1, "host": "h1", "form": form, "bridges": bridges, "engines": engines}}
    return made


@dataclass
class Rows:
    """North and south routers, and the edge between them. `routers` are names of namespaces by side and number."""

    world: World
    factory: Factory
    kernel: Kernel
    facts: frozenset[Fact] = frozenset()
    names: dict[str, str] = field(default_factory=dict)
    routers: Namespaces = field(default_factory=Namespaces)
    _closing: list[Callable[[], object]] = field(default_factory=list)

    # -- the edge -----------------------------------------------------------------------------------------------------

    def apply(self, made: Tree, held: Held = frozenset()) -> Outcome:
        """Lead the kernel to an intent."""
        self.facts = frozenset(compile_inline(intent(made), "h1", held))
        outcome = Reconciler(self.kernel.ports).apply(self.facts)
        assert outcome.pending == ()
        assert outcome.done
        return outcome

    def start(self, made: Tree) -> None:
        """Lead the kernel to an intent, and wait until every bridge has seen that its ports have carriers."""
        self.apply(made)
        ports = {(link.ns, link.name) for link in self.facts if isinstance(link, Link) and link.master}

        def forwarding() -> bool:
            for ns, name in ports:
                state = self.world.run(ns, "bridge", "-d", "link", "show", "dev", name)
                assert "state forwarding" in state, f"{ns}/{name}: {state}"
            return True

        eventually(forwarding, within=10)

    def entries(self, ns: str = "inl-dmz") -> list[CtEntry]:
        """Return the flow records of a namespace."""
        return list(self.kernel.conntrack.dump(Namespace(ns)))

    # -- routers ------------------------------------------------------------------------------------------------------

    def router(self, name: str) -> str:
        """Make a router; return the name of its namespace."""
        if name not in self.names:
            self.names[name] = self.factory(name)
            for key in ("all", "default"):
                self.run(name, "sysctl", "-qw", f"net.ipv4.conf.{key}.rp_filter=0", f"net.ipv6.conf.{key}.accept_dad=0")
        return self.names[name]

    def plug(self, router: str, device: str, port: str) -> None:
        """Put a cable between a router's device and a port of the host."""
        self.router(router)
        host = str(self.world.path(HOST))
        script = ("ip", "link", "add", device, "type", "veth", "peer", "name", port, "netns", host)
        self.run(router, *script)
        self.run(router, "ip", "link", "set", device, "up")

    def wire(self, name: str, north: str = "north", south: str = "south") -> None:
        """Put the cables of one wire: device w<name> on either router."""
        self.plug(north, f"w{name}", f"n{name}")
        self.plug(south, f"w{name}", f"s{name}")

    def run(self, router: str, *command: str) -> str:
        """Run a command on a router."""
        done = subprocess.run(
            ("ip", "netns", "exec", self.names[router], *command), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def mac(self, router: str, device: str) -> str:
        """Return a device's MAC."""
        return self.run(router, "cat", f"/sys/class/net/{device}/address").strip()

    def road(self, router: str, address: str, device: str, far: str) -> None:
        """Send what is for an address out of a device, to the far router's device of that name."""
        mac = self.mac(far, device)
        self.run(router, "ip", "route", "replace", address, "dev", device)
        self.run(router, "ip", "neigh", "replace", address, "lladdr", mac, "dev", device)

    def pair(self, *wires: str, north: str = "north", south: str = "south", v6: bool = False) -> tuple[str, str]:
        """Give the two routers an address each; return them."""
        ends = ("fd00:1::1", "fd00:1::2") if v6 else ("10.1.0.1", "10.1.0.2")
        for router, address in zip((north, south), ends, strict=True):
            self.run(router, "ip", "address", "replace", address, "dev", "lo")
        for wire in wires:
            self.road(north, ends[1], f"w{wire}", south)
            self.road(south, ends[0], f"w{wire}", north)
        return ends

    def carrier(self, router: str, device: str) -> bool:
        """Tell whether a router's device is connected."""
        return "LOWER_UP" in self.run(router, "ip", "link", "show", device)

    # -- traffic ------------------------------------------------------------------------------------------------------

    def opened(self, router: str, *kind: Any) -> socket.socket:
        """Make a socket on a router; it is closed with the rows."""
        with self.routers.in_namespace(Namespace(self.names[router])):
            made = socket.socket(*kind)
        made.settimeout(5)
        self._closing.append(made.close)
        return made

    def listen(self, router: str, address: str, port: int) -> socket.socket:
        """Listen with TCP."""
        made = self.opened(router, socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        made.listen()
        return made

    def connect(
        self, router: str, own: tuple[str, int], to: tuple[str, int], patience: float = 5
    ) -> socket.socket | None:
        """Connect with TCP from an address and port; None when nobody answers or somebody refuses."""
        made = self.opened(router, socket.AF_INET6 if ":" in to[0] else socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.settimeout(patience)
        made.bind(own)
        try:
            made.connect(to)
        except OSError:
            made.close()
            return None
        made.settimeout(10)
        return made

    def tap(self, router: str, device: str) -> Tap:
        """Listen to every frame that a device takes in."""
        made = self.opened(router, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        made.bind((device, ETH_P_ALL))
        return Tap(made)

    def bird(self, router: str, text: str, directory: Path) -> None:
        """Run BIRD on a router; its files are NAME.conf, NAME.ctl, NAME.log of the directory."""
        conf, control, pid = (str(directory / f"{router}.{suffix}") for suffix in ("conf", "ctl", "pid"))
        Path(conf).write_text(text)
        enter = ("ip", "netns", "exec", self.names[router])
        process = subprocess.Popen((*enter, "bird", "-f", "-c", conf, "-s", control, "-P", pid))
        self._closing += [process.kill, process.wait]
        eventually(Path(control).exists, what=f"{router}'s BIRD listens")

    def close(self) -> None:
        """Take everything away."""
        for close in self._closing:
            with suppress(OSError):
                close()
        self.routers.close()


@dataclass
class Tap:
    """Frames that came in on one device, and frames to send out of it."""

    socket: socket.socket
    seen: list[bytes] = field(default_factory=list)

    def frames(self) -> list[bytes]:
        """Return all frames so far; those that the router itself sent are not among them."""
        self.socket.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                frame, where = self.socket.recvfrom(1 << 16)
                if where[2] != socket.PACKET_OUTGOING:
                    self.seen.append(frame)
        return self.seen

    def senders(self) -> set[str]:
        """Return the MACs that frames came from."""
        return {frame[6:12].hex(":") for frame in self.frames()}

    def wait(self, piece: bytes) -> bytes:
        """Wait for a frame that has these octets in it."""
        found = eventually(
            lambda: [frame for frame in self.frames() if piece in frame], within=10, what=f"a frame with {piece!r}"
        )
        return found[0]

    def send(self, frame: bytes) -> None:
        """Send a frame."""
        self.socket.send(frame)


class Mirroring:
    """What the daemon does with carriers: look, decide, compile, apply."""

    def __init__(self, edge: Rows, made: Tree) -> None:
        """Start as a daemon does."""
        self.edge, self.made = edge, made
        links = edge.kernel.ports["links"].read()
        self.mirror = Mirror().over(intent(made), "h1", links)

    def look(self) -> None:
        """Look once."""
        links = self.edge.kernel.ports["links"]
        assert isinstance(links, LinksPort)
        before = self.mirror.held
        self.mirror = self.mirror.see(links.carriers(self.mirror.namespaces), time.monotonic())
        if self.mirror.held != before:
            self.edge.apply(self.made, self.mirror.held)

    def until(self, true: Callable[[], bool]) -> None:
        """Look until something is so."""

        def probe() -> bool:
            self.look()
            return true()

        eventually(probe, within=10)


@contextmanager
def real_kernel(world: World) -> Iterator[Kernel]:
    """Give the ports of a test's host; what they made is gone afterwards."""
    with world.namespaces.in_namespace(HOST):
        kernel = Kernel.real(world.namespaces.directory)
    try:
        yield kernel
    finally:
        Reconciler(kernel.ports).apply(())
        kernel.close()


@contextmanager
def rows(world: World, factory: Factory) -> Iterator[Rows]:
    """Give two rows without wires; the edge's namespaces are gone afterwards."""
    with real_kernel(world) as kernel:
        made = Rows(world, factory, kernel)
        try:
            yield made
        finally:
            made.close()


def exchange(one: socket.socket, other: socket.socket, text: bytes) -> None:
    """Send something and its answer; both must arrive."""
    for sender, receiver in ((one, other), (other, one)):
        sender.sendall(text)
        got = b""
        while len(got) < len(text):
            piece = receiver.recv(1 << 16)
            assert piece, "the connection was closed"
            got += piece
        assert got == text
