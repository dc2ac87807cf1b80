"""A route server that is a machine: its seed says what it serves, and BIRD outside exchanges routes through it.

::

    BIRD one (AS 65001) 192.0.2.1 --- bridge --- 192.0.2.2 BIRD two (AS 65002)
                                         |
                             eth0 192.0.2.101 the box, route server

The machine boots once for each engine; each test begins at the moment when it said that it is ready.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest

from routing.bgp.values import Attributes, Family, Network, Origin, Segment, SegmentType
from tests.support.lan import Lan
from tests.support.lane import EVERYTHING, back, keep, moments, quietly
from tests.support.routers.bird import Bird
from tests.support.routers.common import Link, Route
from tests.support.vm import Direct, Drive, Machine, Nic
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.image,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not EVERYTHING, reason="boots a route server for each engine: make image-test"),
]

BOOT, ROUTES = 600.0, 240.0
MANY = 100
ASN = 64500
INTENT = """\
zone: {name: az1, as: 64512, exchange-as: 64500, composed: "fd00:ed9e::/48"}
nodes:
  rs1:
    id: 1
    roles: [route-server]
    engine: ENGINE
    loopback: {ipv4: 10.255.0.1, ipv6: "fd00:ff::1"}
    fabric: {interface: eth1, ipv4: 10.0.0.1/24, ipv6: "fd00:fab::1/64"}
    exchange: {interface: eth0, ipv4: 192.0.2.101/24, ipv6: "2001:db8::101/64"}
peers:
  one: {as: 65001, addresses: [192.0.2.1, "2001:db8::1"], announces: {transit: true}}
  two: {as: 65002, addresses: [192.0.2.2, "2001:db8::2"], announces: {transit: true}}
"""


@dataclass
class Site:
    """The box and the LAN around it."""

    lan: Lan
    machine: Machine

    def bird(self, name: str, asn: int, first: int) -> Bird:
        """Make a neighbour with a session and its own routes of each family."""
        links, routes = [], []
        for family, own, server in (
            (Family.IPV4, self.lan.ipv4(name), self.lan.ipv4("rs")),
            (Family.IPV6, self.lan.ipv6(name), self.lan.ipv6("rs")),
        ):
            links.append(Link(server, ASN, own, (family,)))
            attributes = Attributes(own, Origin.IGP, (Segment(SegmentType.SEQUENCE, (asn, 65100)),))
            routes += [Route(prefix, attributes) for prefix in prefixes(family, first)]
        return Bird(self.lan, name, asn, links, routes)


def prefixes(family: Family, first: int) -> list[Network]:
    """Return many prefixes that the world has."""
    if family is Family.IPV4:
        return [IPv4Network(f"{first}.0.{number}.0/24") for number in range(MANY)]
    return [IPv6Network(f"2a{first:02x}:{number:x}::/32") for number in range(MANY)]


def seed(directory: Path, engine: str) -> Drive:
    """Make a volume with the intent; the network is the intent's alone."""
    tree = directory / "seed.d"
    tree.mkdir()
    user = {"hostname": "rs1", "edgeway": {"node": "rs1", "intent_file": "intent.yaml"}}
    (tree / "meta-data").write_text("instance-id: i-1\n")
    (tree / "user-data").write_text(f"#cloud-config\n{json.dumps(user)}\n")
    (tree / "network-config").write_text("")
    (tree / "intent.yaml").write_text(INTENT.replace("ENGINE", engine))
    volume = directory / "seed.iso"
    quietly(["xorriso", "-as", "genisoimage", "-quiet", "-V", "cidata", "-J", "-R", "-o", str(volume), str(tree)])
    return Drive(volume, readonly=True)


def arrive(bird: Bird, link: Link, count: int) -> None:
    """Wait until a session has brought that many routes."""
    eventually(lambda: bird.established(link), within=ROUTES, what=f"{bird.member} has its session")
    eventually(lambda: bird.count(link) == count, within=ROUTES, what=f"{count} routes at {bird.member}")


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    """Have the network of an exchange."""
    with Lan("one", "two", rs=101) as made:
        yield made


@pytest.fixture(scope="module", params=["native", "gobgp", "exabgp"])
def booted(
    request: pytest.FixtureRequest, image: Path, lan: Lan, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Start the box once for each engine, and keep the moment."""
    directory = tmp_path_factory.mktemp("rs")
    drives = [Drive(image / "root.squashfs", readonly=True), seed(directory, request.param), moments(directory)]
    nics = [Nic("tap0", "52:54:00:00:06:01"), Nic("tap1", "52:54:00:00:06:02")]
    with Machine(f"rs-{request.param}", Direct(image), drives, nics, lan.namespace("br")) as machine:
        quietly(lan.inside("br", "ip", "link", "set", "tap0", "master", "br0", "up"))
        machine.expect(r"edgeway: READY node=rs1 slot=- version=\S+ up=", within=BOOT)
        keep(machine, "ready")
        yield Site(lan, machine)


@pytest.fixture
def site(booted: Site) -> Site:
    """Give the box as it was when it was ready."""
    back(booted.machine, "ready")
    return booted


def test_routes_go_both_ways_over_both_families(site: Site) -> None:
    """Each neighbour has all routes of the other as they were announced: path and next hop are not the server's."""
    with ExitStack() as stack:
        one, two = (stack.enter_context(site.bird(*who)) for who in (("one", 65001, 20), ("two", 65002, 30)))
        for here, there in ((one, two), (two, one)):
            for link in here.links:
                wanted = {
                    route.prefix: here.as_seen(route.attributes, link)
                    for route in there.routes
                    if route.prefix.version == link.server.version
                }
                assert len(wanted) == MANY
                arrive(here, link, MANY)
                assert here.received(link) == wanted


def test_routes_of_a_neighbour_that_ends_are_withdrawn(site: Site) -> None:
    """And come again with it, from the same life of the server."""
    with site.bird("two", 65002, 30) as two:
        for count in (MANY, 0, MANY):
            with ExitStack() as stack:
                if count:
                    stack.enter_context(site.bird("one", 65001, 20))
                for link in two.links:
                    arrive(two, link, count)
