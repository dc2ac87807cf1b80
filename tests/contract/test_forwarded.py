"""The kernel's count of what it forwarded, from real packets."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.namespaces import Namespaces

pytestmark = pytest.mark.kernel

_ASK = "from appliance.kernel.forwarded import forwarded; print(forwarded())"


def _in(ns: str, *command: str) -> str:
    return subprocess.run(["ip", "netns", "exec", ns, *command], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("a", "b", "length", "ping"), [("10.1.0.", "10.2.0.", 24, "-4"), ("fd01::", "fd02::", 64, "-6")]
)
def test_each_packet_that_passes_is_counted(netns_factory: Namespaces, a: str, b: str, length: int, ping: str) -> None:
    """Three echo requests and three replies; what is for the router itself is not forwarded."""
    left, router, right = (netns_factory(name) for name in ("fwl", "fwr", "fwe"))
    for near, far, net in ((left, "l", a), (right, "r", b)):
        _in(near, "ip", "link", "add", "up0", "type", "veth", "peer", "name", far, "netns", router)
        _in(near, "ip", "address", "add", f"{net}2/{length}", "dev", "up0", *(["nodad"] if ping == "-6" else []))
        _in(router, "ip", "address", "add", f"{net}1/{length}", "dev", far, *(["nodad"] if ping == "-6" else []))
        _in(near, "ip", "link", "set", "dev", "up0", "up")
        _in(router, "ip", "link", "set", "dev", far, "up")
        _in(near, "ip", "route", "add", "default", "via", f"{net}1")
    _in(router, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    before = int(_in(router, sys.executable, "-c", _ASK))
    _in(left, "ping", ping, "-q", "-c", "3", "-i", "0.2", "-W", "5", f"{b}2")
    _in(left, "ping", ping, "-q", "-c", "1", "-W", "5", f"{a}1")
    assert int(_in(router, sys.executable, "-c", _ASK)) - before == 6
