"""The host of labs/vpc-edge: what its README shows is what happens."""

from __future__ import annotations

import pytest

from tests.lab.driving import Lab

pytestmark = [pytest.mark.kernel, pytest.mark.engine]

LAB = "vpc-edge"


def test_redirected_packets_pass_the_service_node(lab: Lab) -> None:
    """The trace says so, and the node's link counts them."""

    def passed() -> int:
        return int(lab.out("ids", "cat", "/sys/class/net/eth1/statistics/rx_bytes"))

    said = lab.out("edge", "edgeway", "trace", "red", "tcp 172.16.1.13:40000 > 172.16.1.11:8080")
    assert "passes through service node ids" in said
    before = passed()
    fetch = "import urllib.request as u; print(len(u.urlopen('http://172.16.1.11:8080/usr/bin/', timeout=9).read()))"
    size = int(lab.out("admin", "python3", "-c", fetch))
    assert passed() - before > size


def test_an_operator_stops_a_flow_and_lets_it_go_on(lab: Lab) -> None:
    """Its next packet is the first that is dropped, and no other flow notices."""
    server = lab.serve("web1", 7000)
    try:
        flow, other = lab.connect("admin", "172.16.1.11", 7000, timeout=2), lab.connect("admin", "172.16.1.11", 7000)
        assert flow.seen.startswith("172.16.1.13:")
        lab.out("edge", "edgeway", "flow", "deny", "red", f"tcp {flow.seen} > 172.16.1.11:7000")
        with pytest.raises(TimeoutError):
            flow.echo("lost")
        assert other.echo("here") == "here"
        lab.out("edge", "edgeway", "flow", "clear", "red", "--all")
        # What was lost is sent again.
        flow.patience(30)
        assert flow.line() == "lost"
        flow.close()
        other.close()
    finally:
        server.close()


def test_tenants_with_the_same_subnet_do_not_meet(lab: Lab) -> None:
    """The same address is another machine in the other VPC, and each has a public address of its own."""
    servers = [lab.serve("client", 7001), lab.serve("web1", 7002)]
    try:
        seen = [lab.connect(guest, "198.51.100.10", 7001).seen.split(":")[0] for guest in ("web1", "blue1")]
        assert seen == ["203.0.113.1", "203.0.113.2"]
        with pytest.raises(OSError, match=r"refused|timed out"):
            lab.connect("blue1", "172.16.1.11", 7002, timeout=2)
    finally:
        for server in servers:
            server.close()


def test_the_wire_shows_in_a_trace_what_it_does(lab: Lab) -> None:
    """By direction: towards north everything passes, towards south what a rule allows."""
    said = lab.out("edge", "edgeway", "trace", "inline/dmz", "tcp 198.18.0.1:5 > 198.18.0.2:8081")
    assert "toward north: passes; toward south: dropped" in said
