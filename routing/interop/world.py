"""Who is on the LAN with the device under test: the one neutral value that every dialect turns into a configuration.

Cases say whom they need (`Part`); `World.of` gives each of them an address and an AS number that depend on nothing but the list
of all cases, so that a configuration written by hand stays right whatever is run. Design note 0010. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Final

from routing.bgp.values import Address, Family

#: The device under test.
ASN: Final = 64500
ADDRESSES: Final[Mapping[Family, Address]] = {
    Family.IPV4: IPv4Address("192.0.2.1"),
    Family.IPV6: IPv6Address("2001:db8::1"),
}
ROUTER_ID: Final = IPv4Address("192.0.2.1")
#: An address of the LAN that nobody has: a next hop need not be the one who tells it.
THIRD: Final[Mapping[Family, Address]] = {
    Family.IPV4: IPv4Address("192.0.2.250"),
    Family.IPV6: IPv6Address("2001:db8::fa"),
}
PORT: Final = 179
#: What members announce. Whatever a case leaves behind is gone before the next one begins.
P: Final = IPv4Network("10.1.0.0/24")
Q: Final = IPv4Network("10.2.0.0/24")
P6: Final = IPv6Network("2001:db8:1::/48")
#: Seconds of graceful restart that the device under test may offer.
RESTART_TIME: Final = 20

_FIRST, _LAST = 10, 249
_TWO_OCTETS, _FOUR_OCTETS = 65000, 4200000000


class Knob(Enum):
    """What a member may need of the configuration beyond "everything in, everything out"."""

    NO_POLICY = "no-policy"  # neither import nor export policy is configured (RFC 8212)
    SHUN = "shun"  # no route whose path begins with the AS of a certain other member goes to it (RFC 7947 2.3)
    ROLE = "role"  # the session has the local role "route server" (RFC 9234)


@dataclass(frozen=True, slots=True)
class Part:
    """Somebody a case needs: over which family it connects, and what is special about it.

    `shuns` is the name of another part of the same case.
    """

    family: Family = Family.IPV4
    four_octet: bool = False
    no_policy: bool = False
    shuns: str = ""
    role: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """A neighbour of the device under test; `name` is CASE/PART."""

    name: str
    number: int
    asn: int
    address: Address
    family: Family = Family.IPV4
    no_policy: bool = False
    shuns: int | None = None
    role: bool = False

    @property
    def identifier(self) -> IPv4Address:
        """Return its BGP identifier."""
        return IPv4Address("10.99.0.0") + self.number

    @property
    def knobs(self) -> frozenset[Knob]:
        """Return what the configuration must be able to say of it."""
        said = {Knob.NO_POLICY: self.no_policy, Knob.SHUN: self.shuns is not None, Knob.ROLE: self.role}
        return frozenset(knob for knob, needed in said.items() if needed)


@dataclass(frozen=True, slots=True)
class World:
    """The device under test and everybody who may connect to it; the witnesses come first."""

    members: tuple[Member, ...]
    asn: int = ASN
    router_id: IPv4Address = ROUTER_ID
    addresses: Mapping[Family, Address] = field(default_factory=lambda: dict(ADDRESSES))

    @classmethod
    def of(cls, casts: Mapping[str, Mapping[str, Part]]) -> World:
        """Give the members of every case (by its name) their places."""
        names = [(case, part) for case, cast in casts.items() for part in cast]
        if len(names) > _LAST - _FIRST:
            raise ValueError(f"{len(names)} members do not fit on the LAN")
        numbers = {name: number for number, name in enumerate(names, _FIRST)}
        return cls(tuple(_member(casts[case], case, part, numbers) for case, part in names))

    def cast(self, case: str) -> dict[str, Member]:
        """Return who takes part in a case, by part."""
        found = (member for member in self.members if member.name.rpartition("/")[0] == case)
        return {member.name.rpartition("/")[2]: member for member in found}

    def only(self, cases: Iterable[str]) -> World:
        """Return the world that these cases need."""
        wanted = frozenset(cases)
        return World(tuple(member for member in self.members if member.name.rpartition("/")[0] in wanted))

    @property
    def interfaces(self) -> tuple[IPv4Interface | IPv6Interface, ...]:
        """Return the addresses of all members with the length of the LAN's prefix."""
        return tuple(_on_lan(member.address) for member in self.members)

    @property
    def own_interfaces(self) -> tuple[IPv4Interface | IPv6Interface, ...]:
        """Return the addresses of the device under test."""
        return tuple(_on_lan(address) for address in self.addresses.values())


def _on_lan(address: Address) -> IPv4Interface | IPv6Interface:
    if isinstance(address, IPv4Address):
        return IPv4Interface((address, 24))
    return IPv6Interface((address, 64))


def _member(cast: Mapping[str, Part], case: str, name: str, numbers: Mapping[tuple[str, str], int]) -> Member:
    part, number = cast[name], numbers[case, name]
    return Member(
        name=f"{case}/{name}",
        number=number,
        asn=_asn(part, number),
        address=_address(part.family, number),
        family=part.family,
        no_policy=part.no_policy,
        shuns=_asn(cast[part.shuns], numbers[case, part.shuns]) if part.shuns else None,
        role=part.role,
    )


def _asn(part: Part, number: int) -> int:
    return (_FOUR_OCTETS if part.four_octet else _TWO_OCTETS) + number


def _address(family: Family, number: int) -> Address:
    if family is Family.IPV4:
        return IPv4Address("192.0.2.0") + number
    return IPv6Address("2001:db8::") + number
