"""What the zone of labs/az must do, with real packets and real peers: the acceptance of design 0003."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

import pytest

from appliance.model.composed import Composed, Kind
from appliance.model.load import load
from services.nat import own_blocks
from tests.lab.zone import TOPOLOGY, Zone
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

INTENT = load(TOPOLOGY.parent / "intent.yaml")
TEXT = (TOPOLOGY.parent / "intent.yaml").read_text(encoding="utf-8")
OURS = tuple(INTENT.nodes)
SERVER, SNAT, VIP = "198.51.100.10", IPv4Address("203.0.113.1"), "203.0.113.80"
COMPOSED = INTENT.zone.composed
NAT = INTENT.vpcs["red"].snat
assert NAT is not None
BLOCK = NAT.block


def owner(port: int) -> str:
    """Return the host whose block of red's address holds a port."""
    slots = INTENT.zone.nat_slots
    return next(name for name, node in INTENT.with_role("host").items() if port // BLOCK % slots == node.id % slots)


def fabric_mac(zone: Zone, node: str) -> str:
    """Return the MAC of a node's fabric port."""
    return zone.out(node, "cat", "/sys/class/net/eth1/address").strip()


class Capture:
    """tcpdump in a node; `lines` grow as packets are seen."""

    def __init__(self, zone: Zone, node: str, *expression: str) -> None:
        """Start and wait until it listens."""
        argv = ["nsenter", "-t", str(zone.pid(node)), "--net", "tcpdump", "-nnel", "--immediate-mode"]
        argv += ["-i", "eth1", *expression]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if "listening" in line:
                break
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line)

    def close(self) -> None:
        """Stop."""
        self._process.terminate()
        self._process.wait(timeout=20)
        self._reader.join(timeout=20)


@pytest.fixture
def echo(zone: Zone) -> Iterator[None]:
    """An echo server outside."""
    server = zone.serve("server", 7000)
    yield
    server.close()


def test_return_packets_find_the_host_that_holds_the_state(zone: Zone, echo: None) -> None:
    """A hundred connections of each of two hosts share one address; gateways hold no state and miss nobody."""
    captures = [Capture(zone, gateway, "ip6", "proto", "4") for gateway in ("gw1", "gw2")]
    flows = [zone.connect(guest, SERVER, 7000) for guest in ("r1", "r2") for _ in range(100)]
    assert {flow.seen.split(":")[0] for flow in flows} == {str(SNAT)}
    assert [owner(flow.port) for flow in flows] == ["h1"] * 100 + ["h2"] * 100
    assert [flow.echo("x") for flow in flows] == ["x"] * 200
    macs = {fabric_mac(zone, host): host for host in ("h1", "h2")}
    pattern = re.compile(rf"> ([0-9a-f:]+), ethertype IPv6.*? > ({str(COMPOSED.network_address)[:-2]}[0-9a-f:]+): ")

    def seen() -> list[tuple[str, IPv6Address]]:
        lines = [line for capture in captures for line in list(capture.lines)]
        return [(macs[m[1]], IPv6Address(m[2])) for line in lines if (m := pattern.search(line))]

    mine = {Composed(Kind.SNAT, SNAT, f.port).network(COMPOSED).network_address: owner(f.port) for f in flows}
    eventually(lambda: {address for _, address in seen()} >= mine.keys(), what="every return packet is seen")
    for capture in captures:
        capture.close()
    assert [pair for pair in seen() if pair[1] in mine and mine[pair[1]] != pair[0]] == []
    for gateway in ("gw1", "gw2"):
        assert zone.out(gateway, "cat", "/proc/sys/net/netfilter/nf_conntrack_count").strip() == "0"
    for flow in flows:
        flow.close()


def test_tenants_with_the_same_addresses_stay_apart(zone: Zone, echo: None) -> None:
    """Guests of red and blue with equal addresses reach the outside by their own VPC and never each other."""
    servers = {guest: zone.serve(guest, 7001) for guest in ("r2", "b2")}
    try:
        assert zone.connect("r1", SERVER, 7000).seen.split(":")[0] == "203.0.113.1"
        assert zone.connect("b1", SERVER, 7000).seen.split(":")[0] == "203.0.113.2"
        servers["b2"].close()
        assert zone.connect("r1", "172.16.1.12", 7001).echo("red") == "red"
        with pytest.raises(OSError, match=r"refused|timed out"):
            zone.connect("b1", "172.16.1.12", 7001, timeout=3)
    finally:
        for server in servers.values():
            server.close()
    for host, other in (("h1", 12), ("h2", 11)):
        for vpc, name in ((101, "red"), (102, "blue")):
            guest = IPv4Address("172.16.1.12" if host == "h1" else "172.16.1.11")
            prefix = Composed(Kind.GUEST, guest, vpc).network(COMPOSED)
            best = [row for row in zone.show(host, "routes", prefix=str(prefix)) if row["best"]]
            assert [row["large-communities"] for row in best] == [[f"64512:6:{vpc}"]]
            route = zone.out(host, "ip", "netns", "exec", f"vpc-{name}", "ip", "route", "get", str(guest))
            assert f"via 100.127.0.{other} dev ew-vx" in route


def test_a_vip_goes_on_at_the_other_host_when_a_backend_stops(zone: Zone) -> None:
    """The host whose backend stopped withdraws its member prefix; new connections land on the other host."""
    member = {h: str(Composed(Kind.VIP, IPv4Address(VIP), INTENT.nodes[h].id).network(COMPOSED)) for h in ("h1", "h2")}

    def routes(gateway: str) -> str:
        return zone.out(gateway, "ip", "-6", "route", "show", "proto", "218")

    def have(host: str, *, present: bool = True) -> bool:
        return all((member[host] in routes(gateway)) == present for gateway in ("gw1", "gw2"))

    eventually(lambda: have("h1") and have("h2"), what="gateways have both members")
    # The service refuses connections, as one that was stopped does.
    zone.run(
        "r1",
        "nft",
        "add table inet stop; add chain inet stop in { type filter hook input priority 0; }; "
        "add rule inet stop in tcp dport 8080 reject with tcp reset",
    )
    try:
        eventually(lambda: have("h1", present=False), what="h1's member leaves the gateways")
        assert have("h2")
        done = [zone.run("server", "timeout", "5", "bash", "-c", f"exec 3<>/dev/tcp/{VIP}/80") for _ in range(20)]
        assert [each.returncode for each in done] == [0] * 20
    finally:
        zone.run("r1", "nft", "delete table inet stop")
    zone.green()


def test_a_full_block_makes_the_host_announce_and_use_another(zone: Zone, echo: None) -> None:
    """With small blocks, connections beyond the first block come from a second one, and all of them answer."""
    small = TEXT.replace("snat: {address: 203.0.113.1, block: 1024}", "snat: {address: 203.0.113.1, block: 64}")
    flows = []
    try:
        for node in OURS:
            zone.reload(node, small)
        assert NAT is not None
        nat = NAT.model_copy(update={"block": 64})
        blocks = own_blocks(nat, INTENT.nodes["h1"].id % INTENT.zone.nat_slots, INTENT.zone.nat_slots)
        flows = [zone.connect("r1", SERVER, 7000) for _ in range(60)]
        assert {flow.port // 64 * 64 for flow in flows} == {blocks[0]}
        second = f"{blocks[1]}-{blocks[1] + 63}"
        eventually(lambda: _vpc(zone, "h1")["ports"][-1] == second, what="the second block is used")
        prefix = str(Composed(Kind.SNAT, SNAT, blocks[1], 64).network(COMPOSED))
        for gateway in ("gw1", "gw2"):
            assert prefix in zone.out(gateway, "ip", "-6", "route", "show", "proto", "218")
        more = [zone.connect("r1", SERVER, 7000) for _ in range(30)]
        assert {flow.port // 64 * 64 for flow in more} == {blocks[1]}
        flows += more
        assert [flow.echo("both blocks") for flow in flows] == ["both blocks"] * 90
    finally:
        for flow in flows:
            flow.close()
        for node in OURS:
            zone.reload(node, TEXT)
    zone.green()


def _vpc(zone: Zone, host: str) -> dict[str, list[str]]:
    return next(row for row in zone.show(host, "vpcs") if row["vpc"] == "red")


def test_a_guest_moves_and_every_router_follows(zone: Zone) -> None:
    """The guest's /32 changes its next hop at gateways, hosts and the legacy router; few pings are lost."""
    moved = TEXT.replace("m1: {host: h1, interface: eth4", "m1: {host: h2, interface: eth4")
    ping = subprocess.Popen(
        ["nsenter", "-t", str(zone.pid("server")), "--net", "ping", "-n", "-i", "0.1", "203.0.113.13"],
        stdout=subprocess.PIPE,
        text=True,
    )
    _expect_next_hop(zone, "10.0.0.11")
    try:
        script = (
            "ip address del 172.16.1.13/24 dev eth1; ip address add 172.16.1.13/24 dev eth2;"
            "ip route replace default via 172.16.1.1 dev eth2"
        )
        zone.out("m1", "sh", "-c", script)
        for node in OURS:
            zone.reload(node, moved)
        _expect_next_hop(zone, "10.0.0.12")
        eventually(lambda: zone.run("r1", "ping", "-c1", "-W1", "172.16.1.13").returncode == 0, what="r1 reaches m1")
        time.sleep(1)
    finally:
        ping.send_signal(2)
        said = ping.communicate(timeout=10)[0]
        zone.out("m1", "sh", "-c", script.replace("eth1", "eth0").replace("eth2", "eth1").replace("eth0", "eth2"))
        for node in OURS:
            zone.reload(node, TEXT)
    counted = re.search(r"(\d+) packets transmitted, (\d+) received", said)
    assert counted is not None, said
    sent, received = int(counted[1]), int(counted[2])
    assert received > 0
    assert sent - received < 150
    _expect_next_hop(zone, "10.0.0.11")
    zone.green()


def _expect_next_hop(zone: Zone, next_hop: str) -> None:
    def follows() -> bool:
        for node in ("gw1", "gw2"):
            assert f"via {next_hop} " in zone.out(node, "ip", "route", "get", "203.0.113.13")
        rib = zone.out("legacy", "bgpctl", "show", "rib", "203.0.113.13/32")
        assert next_hop in rib
        return True

    eventually(follows, what=f"the /32 points to {next_hop} everywhere")


def test_what_is_too_big_is_answered_and_then_succeeds(zone: Zone) -> None:
    """A full-sized DF packet towards a composed destination gets ICMP too big; the transfer succeeds after."""
    zone.run("server", "ip", "route", "flush", "cache")
    server = zone.serve("server", 7002)
    try:
        flow = zone.connect("r2", SERVER, 7002)
        text = "y" * 60000
        assert flow.echo(text) == text
        assert "mtu 1460" in zone.out("server", "ip", "route", "get", str(SNAT))
    finally:
        server.close()
