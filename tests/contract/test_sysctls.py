"""Sysctls in the namespace they belong to."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from appliance.kernel.sysctls import SysctlsPort, path, same
from appliance.model.facts import HOST, Link, Namespace, Sysctl
from appliance.state.diff import diff
from tests.contract.boxes import RealBox, prepare, reach

if TYPE_CHECKING:
    from tests.contract.boxes import Box
    from tests.contract.worlds import World

RED = Namespace("red")
FORWARD = Sysctl(RED, "net.ipv4.ip_forward", "1")


def test_values_are_written_where_they_belong(box: Box) -> None:
    """Two namespaces, two values; once more is nothing."""
    prepare(box, RED)
    port = box.port("sysctls")
    for value in ("1", "0", "1"):
        desired = {Sysctl(RED, FORWARD.name, value), Sysctl(HOST, FORWARD.name, "0")}
        assert reach(port, desired) == ()
        assert port.read() == desired
        assert not diff(port.read(), desired)


def test_several_numbers_are_compared_as_the_kernel_does(box: Box) -> None:
    """It answers with tabs."""
    prepare(box, RED)
    port = box.port("sysctls")
    desired = {
        Sysctl(RED, "net.ipv4.tcp_rmem", "4096 131072 6291456"),
        Sysctl(RED, "net.ipv4.ping_group_range", "1\t0"),
    }
    assert reach(port, desired) == ()
    assert port.read() == desired


def test_a_missing_device_is_a_failure_that_may_pass(box: Box) -> None:
    """So is a missing namespace; the device may have a dot in its name."""
    port = box.port("sysctls")
    assert reach(port, [FORWARD])[0].error.retry
    prepare(box, RED)
    wanted = Sysctl(RED, "net.ipv4.conf.v0/7.rp_filter", "2")
    assert [failure.error.retry for failure in reach(port, [FORWARD, wanted])] == [True]
    reach(box.port("links"), [Link(RED, "v0.7", "bridge")])
    assert reach(port, [FORWARD, wanted]) == ()
    assert port.read() == {FORWARD, wanted}


def test_forgetting_one_leaves_its_value(box: Box) -> None:
    """Nobody knows what it was before."""
    prepare(box, RED)
    port = box.port("sysctls")
    reach(port, [FORWARD])
    assert reach(port, ()) == ()
    assert port.read() == frozenset()


def test_a_restarted_process_that_is_told_finds_right_values_right(world: World) -> None:
    """And sees what another changed since."""
    box = RealBox(world)
    prepare(box, RED)
    reach(box.port("sysctls"), [FORWARD])
    again = SysctlsPort(world.namespaces)
    again.attend([FORWARD])
    assert again.read() == {FORWARD}
    world.run(RED, "sysctl", "-qw", "net.ipv4.ip_forward=0")
    assert again.read() == {Sysctl(RED, FORWARD.name, "0")}


def test_a_name_that_does_not_exist_is_a_failure_for_good(world: World) -> None:
    """The kernel lacks it: trying again does not help."""
    (failure,) = reach(RealBox(world).port("sysctls"), [Sysctl(HOST, "net.ipv4.no_such_thing", "1")])
    assert not failure.error.retry


def test_a_bridge_that_shows_nothing_to_netfilter_is_as_if_told_not_to(world: World) -> None:
    """Without br_netfilter there is no such file, and nothing to turn off; turning it on is refused."""
    port = RealBox(world).port("sysctls")
    off, on = (Sysctl(HOST, "net.bridge.bridge-nf-no-such-thing", value) for value in "01")
    assert reach(port, [off]) == ()
    assert port.read() == {off}
    (failure,) = reach(port, [on])
    assert failure.error.errno == errno.ENOENT
    assert port.read() == {off}


def test_a_slash_stands_for_a_dot_in_a_device_name() -> None:
    """As sysctl(8) has it."""
    assert str(path("net.ipv4.conf.up0/100.forwarding")) == "/proc/sys/net/ipv4/conf/up0.100/forwarding"
    assert same("1\t2", "1 2")
    assert not same("1", "2")
