"""Composing devices: whatever the path, the kernel ends with the programs and members that are desired."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from errno import ENODEV, ENOENT
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from appliance.kernel.compose import FILTER, OBJECT, ComposePort, pack_members, unpack_members
from appliance.kernel.fakes.tables import FakeCompose
from appliance.kernel.fakes.world import FakeWorld
from appliance.model.errors import InternalError
from appliance.model.facts import HOST, Compose, Namespace
from appliance.state.diff import diff
from tests.contract.boxes import reach
from tests.support.waiting import eventually_async

if TYPE_CHECKING:
    from tests.contract.worlds import World

RED = Namespace("red")
VIP, OTHER = IPv4Address("203.0.113.7"), IPv4Address("203.0.113.8")
SOURCE, PREFIX = IPv6Address("fd00::1"), IPv6Network("fd00:1:2::/48")
PLAIN = Compose(HOST, "c0", SOURCE, PREFIX)

STATES: dict[str, tuple[Compose, ...]] = {
    "nothing": (),
    "plain": (PLAIN,),
    "members": (replace(PLAIN, members=((VIP, (1, 2, 3)), (OTHER, ()))),),
    "all members": (replace(PLAIN, members=((VIP, tuple(range(1, 64))), (OTHER, (63,)))),),
    "two": (replace(PLAIN, source=IPv6Address("fd00::2")), replace(PLAIN, ns=RED, members=((VIP, (9,)),))),
    "other prefix": (replace(PLAIN, prefix=IPv6Network("fd00:9:9::/48"), members=((VIP, (2,)),)),),
}


class Node(Protocol):
    """A node with device c0 in HOST and in RED."""

    def port(self) -> ComposePort | FakeCompose:
        """Make a port, as a restarted daemon would."""
        ...


@dataclass
class FakeNode:
    """In memory."""

    world: FakeWorld = field(default_factory=lambda: FakeWorld("c0"))

    def __post_init__(self) -> None:
        """Have the device in RED too."""
        self.world.namespaces.add(RED)
        self.world.links[RED, "c0"] = None  # type: ignore[assignment]

    def port(self) -> FakeCompose:
        """Make a fake."""
        return FakeCompose(self.world)


@dataclass
class RealNode:
    """In namespaces."""

    world: World

    def __post_init__(self) -> None:
        """Make the devices."""
        self.world.make(RED)
        for ns in (HOST, RED):
            self.world.run(ns, "ip", "link", "add", "c0", "type", "veth", "peer", "name", "c0-far")

    def port(self, path: Path = OBJECT) -> ComposePort:
        """Make a real one."""
        return ComposePort(self.world.namespaces, path)

    def filters(self, link: str = "c0") -> list[str]:
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
    """The others are made; to take off what is not there is no failure."""
    bad, worse = replace(PLAIN, link="nix"), replace(PLAIN, ns=Namespace("nowhere"))
    port = node.port()
    failures = reach(port, [PLAIN, bad, worse])
    assert {failure.fact for failure in failures} == {bad, worse}
    assert all(failure.error.retry and failure.error.errno == ENODEV for failure in failures)
    assert port.read() == {PLAIN}
    assert port.apply(diff([bad, worse], [])) == ()


@pytest.mark.kernel
def test_members_change_in_place_and_all_else_in_one_step(real: RealNode) -> None:
    """The program stays where only members change; another source is another program on the same hook."""
    reach(real.port(), [PLAIN])
    before = real.filters()
    reach(real.port(), [replace(PLAIN, members=((VIP, (1, 2)),))])
    assert real.filters() == before
    reach(real.port(), [replace(PLAIN, source=IPv6Address("fd00::3"))])
    after = real.filters()
    assert after != before
    assert len(after) == 1


@pytest.mark.kernel
def test_a_program_of_another_build_is_replaced_and_told_apart(real: RealNode, tmp_path: Path) -> None:
    """An upgrade: the new daemon's object differs, so what hangs there is not what is desired."""
    other = Path(shutil.copy(OBJECT, tmp_path))
    other.write_bytes(other.read_bytes() + b"\0")
    reach(real.port(other), [PLAIN])
    (stale,) = real.port().read()
    assert (stale.key, stale.source) == (PLAIN.key, IPv6Address(0))
    assert reach(real.port(), [PLAIN]) == ()
    assert real.port().read() == {PLAIN}
    assert len(real.filters()) == 1


@pytest.mark.skipif(shutil.which("clang") is None, reason="there is no compiler here")
@pytest.mark.kernel
def test_a_program_with_our_name_and_other_maps_is_not_believed(real: RealNode, tmp_path: Path) -> None:
    """Nothing in the kernel checks the layout of values, so we do."""
    source = tmp_path / "other.bpf.c"
    source.write_text('__attribute__((section("tc"), used)) int ew_compose(void *skb) { return 0; }')
    built = source.with_suffix(".o")
    subprocess.run(["clang", "-O2", "-target", "bpf", "-c", source, "-o", built], check=True)
    (failure,) = reach(real.port(built), [PLAIN])
    assert "make setup" in str(failure.error)
    add = f"tc qdisc add dev c0 clsact; tc filter add dev c0 ingress bpf da obj {built} sec tc"
    real.world.run(HOST, "sh", "-c", add)
    assert real.port().read() == frozenset(), "tc names its filter by file and section: not ours"
    assert reach(real.port(), [PLAIN]) == ()
    assert len(real.filters()) == 2
    assert reach(real.port(), []) == ()
    assert len(real.filters()) == 1, "the foreign filter stays"


@pytest.mark.kernel
def test_an_object_that_is_not_built_is_a_failure_that_says_what_to_do(real: RealNode, tmp_path: Path) -> None:
    """The rest of the plan of a node goes on."""
    (failure,) = reach(real.port(tmp_path / "none.o"), [PLAIN])
    assert failure.error.errno == ENOENT
    assert "make setup" in str(failure.error)


@pytest.mark.kernel
def test_a_device_made_anew_has_lost_its_program(real: RealNode) -> None:
    """It is read as absent, and put back."""
    port = real.port()
    reach(port, [PLAIN])
    real.world.run(HOST, "ip", "link", "del", "c0")
    assert port.read() == frozenset()
    real.world.run(HOST, "ip", "link", "add", "c0", "type", "veth", "peer", "name", "c0-far")
    assert reach(port, [PLAIN]) == ()
    assert port.read() == {PLAIN}


@pytest.mark.kernel
async def test_a_filter_that_somebody_takes_off_is_told(real: RealNode) -> None:
    """So that the caller reads again."""
    port = real.port()
    reach(port, [PLAIN])
    heard: list[str] = []
    async with aclosing(port.watch()) as reasons:  # type: ignore[type-var]
        async for reason in reasons:
            if reason == "listening":
                real.world.run(HOST, "tc", "filter", "del", "dev", "c0", "ingress")
                continue
            heard.append(reason)
            if port.read() == frozenset():
                break
    await eventually_async(lambda: "compose" in heard)


def test_ids_beyond_those_of_nodes_are_a_bug() -> None:
    """They would not fit the bits that tell who is a member."""
    assert unpack_members(pack_members(VIP, (1, 63))) == (1, 63)
    with pytest.raises(InternalError):
        pack_members(VIP, (64,))


def test_the_filter_has_a_name_that_tc_shows() -> None:
    """An operator who looks with `tc filter show` sees whose it is."""
    assert FILTER == "ew-compose"
