"""A node with two devices for contract tests of routes: once in memory, once in namespaces."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Protocol

from appliance.kernel.fakes.routes import FakeRoutes
from appliance.kernel.fakes.world import FakeWorld
from appliance.kernel.routes import RoutesPort
from appliance.model.facts import HOST, Decapsulate, Hop, Namespace, Network, Route
from appliance.model.marks import PROTO_BGP
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.contract.worlds import World

RED = Namespace("red")
ONE, TWO, THREE = (Hop("a0", IPv4Address(f"10.255.0.{number}")) for number in (2, 3, 4))
OTHER = Hop("b0", IPv4Address("10.254.0.2"))
SIX = Hop("a0", IPv6Address("fd00:255::2"))
GUEST = Hop("b0", None, Decapsulate(IPv4Address("10.254.0.9")))


class Roads(Protocol):
    """A node seen from outside: two devices, a0 and b0, in HOST and in RED."""

    def port(self) -> RoutesPort | FakeRoutes:
        """Make a port, as a restarted daemon would."""
        ...

    def carrier(self, ns: Namespace, link: str, *, up: bool) -> None:
        """Have a device carry packets, or not."""
        ...


@dataclass
class FakeRoads:
    """In memory."""

    world: FakeWorld = field(default_factory=lambda: FakeWorld("a0", "b0"))

    def __post_init__(self) -> None:
        """Have both devices in RED too; the fake knows devices by their links."""
        self.world.namespaces.add(RED)
        for name in ("a0", "b0"):
            self.world.links[RED, name] = None  # type: ignore[assignment]

    def port(self) -> FakeRoutes:
        """Make a fake."""
        return FakeRoutes(self.world)

    def carrier(self, ns: Namespace, link: str, *, up: bool) -> None:
        """Tell the fake."""
        self.port().set_carrier(ns, link, up=up)


@dataclass
class RealRoads:
    """In namespaces."""

    world: World

    def __post_init__(self) -> None:
        """Make the devices."""
        self.world.make(RED)
        for ns in (HOST, RED):
            for name, net in (("a0", 255), ("b0", 254)):
                self.ip(ns, "link", "add", name, "type", "veth", "peer", "name", f"{name}-far")
                self.ip(ns, "link", "set", f"{name}-far", "up")
                self.ip(ns, "link", "set", name, "up")
                self.ip(ns, "address", "add", f"10.{net}.0.1/24", "dev", name)
                self.ip(ns, "address", "add", f"fd00:{net}::1/64", "dev", name, "nodad")

    def ip(self, ns: Namespace, *words: str) -> str:
        """Run `ip` as a foreigner would."""
        return self.world.run(ns, "ip", *words)

    def port(self) -> RoutesPort:
        """Make a real one."""
        return RoutesPort(self.world.namespaces)

    def carrier(self, ns: Namespace, link: str, *, up: bool) -> None:
        """Pull the cable at the far end, and wait until the near end has noticed."""
        self.ip(ns, "link", "set", f"{link}-far", "up" if up else "down")
        word = "LOWER_UP" if up else "NO-CARRIER"
        eventually(lambda: word in self.ip(ns, "link", "show", link), what=f"{link} is {word}")

    def objects(self, ns: Namespace = HOST) -> list[str]:
        """Return the lines of `ip nexthop`."""
        return self.ip(ns, "nexthop").splitlines()


def net(text: str) -> Network:
    """Parse a prefix."""
    return IPv6Network(text) if ":" in text else IPv4Network(text)


def route(text: str, *hops: Hop, ns: Namespace = HOST, proto: int = PROTO_BGP, mtu: int | None = None) -> Route:
    """Write a route shortly."""
    return Route(ns, net(text), hops, proto, mtu)


def many(count: int, *hops: Hop) -> list[Route]:
    """Return routes that differ in their destinations."""
    return [route(f"10.{number // 256}.{number % 256}.0/24", *hops) for number in range(count)]
