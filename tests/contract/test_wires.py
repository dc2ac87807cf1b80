"""Ports of inline edges: whatever the path, the kernel ends with the programs that are desired."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from errno import ENODEV, ENOENT
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from appliance.kernel.fakes.tables import FakeWires
from appliance.kernel.fakes.world import FakeWorld
from appliance.kernel.wires import FILTER, OBJECT, UNKNOWN, WiresPort
from appliance.model.facts import HOST, Namespace, Wire
from appliance.model.marks import SIDE_SOUTH, inline_zone
from appliance.state.diff import diff
from tests.contract.boxes import reach
from tests.support.waiting import eventually, eventually_async

if TYPE_CHECKING:
    from tests.contract.worlds import World

RED = Namespace("red")
ZONE = inline_zone(15, 254)
NORTH, SOUTH = Wire(HOST, "n0", ZONE), Wire(HOST, "s0", ZONE | SIDE_SOUTH)

STATES: dict[str, tuple[Wire, ...]] = {
    "nothing": (),
    "marks": (NORTH, SOUTH),
    "other marks": (replace(NORTH, mark=1), replace(SOUTH, mark=0)),
    "out of the partner": (replace(NORTH, to="s0"), replace(SOUTH, to="n0")),
    "through a pair": (replace(NORTH, to="s0", peer=True), replace(SOUTH, mark=0, to="n0")),
    "in two namespaces": (NORTH, replace(NORTH, ns=RED), replace(SOUTH, ns=RED, to="n0", peer=True)),
}


class Node(Protocol):
    """A node with devices n0 and s0 in HOST and in RED."""

    def port(self) -> WiresPort | FakeWires:
        """Make a port, as a restarted daemon would."""
        ...


@dataclass
class FakeNode:
    """In memory."""

    world: FakeWorld = field(default_factory=lambda: FakeWorld("n0", "s0"))

    def __post_init__(self) -> None:
        """Have the devices in RED too."""
        self.world.namespaces.add(RED)
        for name in ("n0", "s0"):
            self.world.links[RED, name] = None  # type: ignore[assignment]

    def port(self) -> FakeWires:
        """Make a fake."""
        return FakeWires(self.world)


@dataclass
class RealNode:
    """In namespaces."""

    world: World

    def __post_init__(self) -> None:
        """Make the devices; their other ends are `-far` ones."""
        self.world.make(RED)
        for ns in (HOST, RED):
            for name in ("n0", "s0"):
                self.make(ns, name)

    def make(self, ns: Namespace, name: str) -> None:
        """Make a device."""
        self.world.run(ns, "ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}-far")

    def port(self, path: Path = OBJECT) -> WiresPort:
        """Make a real one."""
        return WiresPort(self.world.namespaces, path)

    def filters(self, link: str = "n0") -> list[str]:
        """Return what `tc` says of the ingress of a device, without its chains."""
        lines = self.world.run(HOST, "tc", "filter", "show", "dev", link, "ingress").splitlines()
        return [line for line in lines if "handle" in line]


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.kernel)])
def node(request: pytest.FixtureRequest) -> Node:
    """Give a node in memory, and one of this kernel."""
    return FakeNode() if request.param == "fake" else RealNode(request.getfixturevalue("world"))


@pytest.fixture
def real(world: World) -> RealNode:
    """Give a node of this kernel."""
    return RealNode(world)


@pytest.mark.parametrize("path", list(permutations(STATES, 2)), ids=" -> ".join)
def test_the_kernel_depends_on_the_state_and_not_on_the_path(node: Node, path: tuple[str, str]) -> None:
    """After each state the kernel holds it, for another process too, and once more is an empty plan."""
    port = node.port()
    for name in path:
        desired = frozenset(STATES[name])
        assert reach(port, desired) == ()
        assert port.read() == desired
        assert node.port().read() == desired
        assert not diff(port.read(), desired)


def test_a_missing_device_fails_alone_and_may_be_tried_again(node: Node) -> None:
    """Also one that frames are to go to; to take off what is not there is no failure."""
    bad = {replace(NORTH, link="nix"), replace(NORTH, to="nix"), replace(NORTH, ns=Namespace("nowhere"))}
    port = node.port()
    failures = reach(port, [SOUTH, *bad])
    assert {failure.fact for failure in failures} == bad
    assert all(failure.error.retry and failure.error.errno == ENODEV for failure in failures)
    assert port.read() == {SOUTH}
    assert port.apply(diff(bad, [])) == ()


@pytest.mark.kernel
def test_another_value_takes_the_place_of_the_old_one_in_one_step(real: RealNode) -> None:
    """There is one filter, before and after."""
    reach(real.port(), [NORTH])
    before = real.filters()
    reach(real.port(), [replace(NORTH, mark=7)])
    after = real.filters()
    assert after != before
    assert len(before) == len(after) == 1


@pytest.mark.kernel
def test_a_program_of_another_build_is_replaced_and_told_apart(real: RealNode, tmp_path: Path) -> None:
    """An upgrade: the new daemon's object differs, so what hangs there is not what is desired."""
    other = Path(shutil.copy(OBJECT, tmp_path))
    other.write_bytes(other.read_bytes() + b"\0")
    reach(real.port(other), [NORTH])
    assert real.port().read() == {replace(NORTH, mark=UNKNOWN)}
    assert reach(real.port(), [NORTH]) == ()
    assert real.port().read() == {NORTH}
    assert len(real.filters()) == 1


@pytest.mark.skipif(shutil.which("clang") is None, reason="there is no compiler here")
@pytest.mark.kernel
def test_a_program_with_our_name_and_another_map_is_not_believed(real: RealNode, tmp_path: Path) -> None:
    """Nothing in the kernel checks the layout of values, so we do; a foreign filter stays."""
    source = tmp_path / "other.bpf.c"
    source.write_text('__attribute__((section("tc"), used)) int ew_wire(void *skb) { return 0; }')
    built = source.with_suffix(".o")
    subprocess.run(["clang", "-O2", "-target", "bpf", "-c", source, "-o", built], check=True)
    (failure,) = reach(real.port(built), [NORTH])
    assert "make setup" in str(failure.error)
    add = f"tc qdisc add dev n0 clsact; tc filter add dev n0 ingress bpf da obj {built} sec tc"
    real.world.run(HOST, "sh", "-c", add)
    assert real.port().read() == frozenset()
    assert reach(real.port(), [NORTH]) == ()
    assert reach(real.port(), []) == ()
    assert len(real.filters()) == 1


@pytest.mark.kernel
def test_an_object_that_is_not_built_is_a_failure_that_says_what_to_do(real: RealNode, tmp_path: Path) -> None:
    """The rest of the plan of a node goes on."""
    (failure,) = reach(real.port(tmp_path / "none.o"), [NORTH])
    assert failure.error.errno == ENOENT
    assert "make setup" in str(failure.error)


@pytest.mark.kernel
def test_a_target_that_is_made_anew_is_another_target(real: RealNode) -> None:
    """The program still knows the old one by its number, so it is read as what nobody wants."""
    port, wanted = real.port(), replace(NORTH, to="s0")
    reach(port, [wanted])
    real.world.run(HOST, "ip", "link", "del", "s0")
    assert port.read() == {replace(NORTH, mark=UNKNOWN)}
    real.make(HOST, "s0")
    assert reach(port, [wanted]) == ()
    assert port.read() == {wanted}


@pytest.mark.kernel
async def test_a_filter_that_somebody_takes_off_is_told(real: RealNode) -> None:
    """So that the caller reads again."""
    port = real.port()
    reach(port, [NORTH])
    heard: list[str] = []
    async with aclosing(port.watch()) as reasons:  # type: ignore[type-var]
        async for reason in reasons:
            if reason == "listening":
                real.world.run(HOST, "tc", "filter", "del", "dev", "n0", "ingress")
                continue
            heard.append(reason)
            if port.read() == frozenset():
                break
    await eventually_async(lambda: "wire" in heard)


@pytest.mark.kernel
@pytest.mark.parametrize("peer", [False, True], ids=["out of a device", "into its other end"])
def test_a_frame_goes_where_it_is_sent_and_keeps_its_mark_on_the_way_in(real: RealNode, peer: bool) -> None:
    """Out of a device into another namespace a mark is lost; into the other end it is not."""
    world = real.world
    world.run(HOST, "ip", "link", "del", "s0")
    world.run(RED, "ip", "link", "del", "s0")
    world.run(
        HOST, "ip", "link", "add", "s0", "up", "type", "veth", "peer", "name", "t0", "netns", str(world.path(RED))
    )
    for ns, names in ((HOST, ("n0", "n0-far")), (RED, ("t0",))):
        for name in names:
            world.run(ns, "ip", "link", "set", name, "up")
    world.run(RED, "nft", "add table netdev t { chain c { type filter hook ingress device t0 priority 0; }; }")
    world.run(RED, "nft", f"add rule netdev t c meta mark {ZONE} counter")
    world.run(RED, "nft", "add rule netdev t c meta mark 0 counter")
    assert reach(real.port(), [replace(NORTH, to="s0", peer=peer)]) == ()
    with world.namespaces.in_namespace(HOST):
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with sender:
        sender.bind(("n0-far", 0))
        expected = f"0x{ZONE:08x}" if peer else "0x00000000"

        def counted() -> bool:
            sender.send(bytes.fromhex("020000000001020000000002 88b5".replace(" ", "")) + bytes(46))
            lines = world.run(RED, "nft", "list", "chain", "netdev", "t", "c").splitlines()
            return any(expected in line and "packets 0" not in line for line in lines)

        eventually(counted)


def test_the_filter_has_a_name_that_tc_shows() -> None:
    """An operator who looks with `tc filter show` sees whose it is."""
    assert FILTER == "ew-wire"
