"""Neighbours of a route server drawn from dice: who they are, what their policies are, and what they say.

For `tests.support.walking`. Few prefixes, few AS numbers and few policies, so that routes meet, tie and loop.
"""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network
from typing import Any

from routing.bgp.session import Established
from routing.bgp.values import (
    Address,
    Announcement,
    Attributes,
    ExportPolicy,
    Family,
    ImportPolicy,
    Mode,
    Neighbor,
    Network,
    Origin,
    PrefixRule,
    Segment,
    SegmentType,
    Speaker,
    UnknownAttribute,
)

US = 65000
LOCAL = IPv4Address("192.0.2.254")
LOCAL6 = IPv6Address("2001:db8::fe")
ROUTER_ID = IPv4Address("192.0.2.254")
PREFIXES: dict[Family, list[Network]] = {
    Family.IPV4: [
        ip_network(text) for text in ("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/23", "10.1.2.128/25")
    ]
    + [ip_network(f"10.2.{n}.0/24") for n in range(4)],
    Family.IPV6: [ip_network(text) for text in ("::/0", "2001:db8:1::/48", "2001:db8:2::/48", "2001:db8:2:8000::/49")],
}
ANY = (PrefixRule(ip_network("0.0.0.0/0"), 0, 32), PrefixRule(ip_network("::/0"), 0, 128))
SOME = (PrefixRule(ip_network("10.0.0.0/8"), 9, 24), PrefixRule(ip_network("2001:db8:2::/48"), 48, 128))
BOTH = frozenset(Family)
FIXED = [IPv4Address(f"192.0.2.{n}") for n in range(1, 8)]
DYNAMIC = [IPv4Address(f"192.0.2.{n}") for n in (17, 18, 20)]
OPEN = ImportPolicy(accept=ANY, refuse_as_set=False)
IMPORTS = [
    OPEN,
    OPEN,
    replace(OPEN, refuse_as_set=True),
    replace(OPEN, accept=SOME),
    replace(OPEN, never=SOME),
    replace(OPEN, forbidden_as=(7,)),
    replace(OPEN, max_path_length=2),
    replace(OPEN, next_hops=(ip_network("192.0.2.0/30"), ip_network("2001:db8::/126"))),
    replace(OPEN, max_prefixes=3),
    replace(OPEN, max_prefixes=1, accept=SOME),
    ImportPolicy(),
]
EXPORTS = [
    *[ExportPolicy(ANY)] * 6,
    ExportPolicy(SOME),
    ExportPolicy(SOME),
    ExportPolicy(ANY, never=SOME),
    ExportPolicy((PrefixRule.exact(PREFIXES[Family.IPV4][2]),)),
    ExportPolicy(),
]
OWN = [
    Announcement(PREFIXES[Family.IPV4][1]),
    Announcement(PREFIXES[Family.IPV4][2], IPv4Address("192.0.2.77"), med=5),
    Announcement(ip_network("10.9.0.0/16"), communities=((65000, 1),)),
    Announcement(PREFIXES[Family.IPV6][1]),
    Announcement(PREFIXES[Family.IPV6][2], IPv6Address("2001:db8::77")),
]
RANGES = {"wide": IPv4Network("192.0.2.16/28"), "tight": IPv4Network("192.0.2.20/30")}


class Cast:
    """Who there is now."""

    def __init__(self, dice: random.Random, mode: Mode) -> None:
        """Draw them."""
        self._dice, self._mode = dice, mode
        # Apart, so that what is said of roles leaves every walk as it was.
        self._roles = random.Random(1)
        self._extended = dice.random() < 0.5
        self._own: list[Announcement] = []
        self._neighbors: dict[str, Neighbor] = {}
        for number in range(1, len(FIXED) + 1):
            self._neighbor(number)
        for name in RANGES:
            self._range(name)

    def mostly(self) -> bool:
        """Tell yes to most, so that many are treated alike."""
        return self._dice.random() < 0.9

    def some(self, family: Family) -> list[Network]:
        """Draw prefixes."""
        return self._dice.sample(PREFIXES[family], self._dice.choice((1, 1, 2, 4)))

    def speaker(self) -> Speaker:
        """Return what the servers are to be."""
        order = list(self._neighbors.values())
        self._dice.shuffle(order)
        return Speaker(
            "s", self._mode, US, ROUTER_ID, (LOCAL, LOCAL6), neighbors=tuple(order), announcements=tuple(self._own)
        )

    def change(self) -> None:
        """Change a few things."""
        ways = (self._alter, self._alter, self._alter, self._replace, self._ranges, self._originate)
        for _ in range(self._dice.choice((1, 1, 2, 4))):
            self._dice.choice(ways)()

    def session(self, address: Address) -> Established:
        """Draw what a session agrees on."""
        choice, families = self._dice.choice, BOTH if self.mostly() else frozenset({Family.IPV4})
        number = int(address) & 0xFF
        return Established(
            IPv4Address("10.9.9.0") + choice((number, number, 200)),
            LOCAL if self.mostly() else LOCAL6,
            families,
            extended_next_hop=self.mostly() == self._extended,
            restart_time=choice((None, 90, 90)),
            kept=choice((families, families, frozenset({Family.IPV4}))),
            preserved=choice((families, families, frozenset({Family.IPV4}), frozenset())),
        )

    def attributes(self, address: Address, asn: int, family: Family, *, extended: bool) -> Attributes:
        """Draw what a neighbour says; `extended`: with next hops of the other family (RFC 8950)."""
        choice = self._dice.choice
        number = IPv6Address("2001:db8::") + (int(address) & 0xFF)
        four = choice((address, address, IPv4Address("192.0.2.77")))
        return Attributes(
            next_hop=number if family is Family.IPV6 or (extended and choice((True, False))) else four,
            origin=choice((Origin.IGP, Origin.IGP, Origin.EGP)),
            as_path=self._path(asn),
            med=choice((None, None, 0, 5)),
            local_pref=choice((None, None, 100, 200)),
            communities=choice(((), (), (), ((65535, 65281),), ((65535, 65282),), ((65535, 0),), ((1, 2),))),
            originator_id=choice((None, None, None, ROUTER_ID, IPv4Address("10.9.9.1"), IPv4Address("10.9.9.17"))),
            cluster_list=choice(((), (), (IPv4Address("1.1.1.1"),), (ROUTER_ID,))),
            unknown=choice(((), (), (UnknownAttribute(0xC0, 35, b"leak"),), (UnknownAttribute(0xE0, 99, b"x"),))),
        )

    def _path(self, asn: int) -> tuple[Segment, ...]:
        choice = self._dice.choice
        first = [] if asn == US else [choice((asn, asn, 9))]
        beyond = [choice((US + 1, US + 2, US + 3, US + 9, 7, 4200000000)) for _ in range(choice((0, 0, 1, 1, 2)))]
        asns = (*first, *beyond, *([US] if self._dice.random() < 0.03 else ()))
        path = (Segment(SegmentType.SEQUENCE, asns),) if asns else ()
        if self._dice.random() < 0.1:
            path = (*path, Segment(SegmentType.SET, (choice((US + 2, 8)), 11)))
        return path

    def _neighbor(self, number: int) -> None:
        internal = self._dice.random() < (0.4 if self._mode is not Mode.TRANSPARENT else 0.1)
        asn = US if internal else self._dice.choice((US + number, US + number, US + 1))
        neighbor = Neighbor(f"n{number}", asn, FIXED[number - 1], next_hop_self=self._dice.random() < 0.3)
        self._neighbors[neighbor.name] = self._policies(neighbor)

    def _range(self, name: str) -> None:
        self._neighbors[name] = self._policies(Neighbor(name, self._dice.choice((US + 9, US)), range=RANGES[name]))

    def _policies(self, neighbor: Neighbor) -> Neighbor:
        imports, exports = self._dice.choice(IMPORTS), self._dice.choice(EXPORTS)
        if self._dice.random() < 0.2:
            imports = replace(imports, first_as=neighbor.asn)
        client = self._mode is Mode.TRANSPARENT and neighbor.asn != US and self._roles.random() < 0.3
        return replace(neighbor, imports=imports, exports=exports, client=client)

    def _alter(self) -> None:
        if self._neighbors:
            name = self._dice.choice(sorted(self._neighbors))
            changed = self._policies(self._neighbors[name])
            kept = self._dice.choice(("imports", "exports", "nothing"))
            more: dict[str, Any] = {} if kept == "nothing" else {kept: getattr(self._neighbors[name], kept)}
            self._neighbors[name] = replace(changed, **more, next_hop_self=self._dice.random() < 0.3)

    def _replace(self) -> None:
        number = self._dice.randint(1, len(FIXED))
        if self._neighbors.pop(f"n{number}", None) is None or self._dice.random() < 0.5:
            self._neighbor(number)

    def _ranges(self) -> None:
        name = self._dice.choice(sorted(RANGES))
        if self._neighbors.pop(name, None) is None or self._dice.random() < 0.3:
            self._range(name)

    def _originate(self) -> None:
        chosen = self._dice.sample(OWN, self._dice.randint(0, len(OWN)))
        self._own = [replace(own, med=self._dice.choice((None, 7))) for own in chosen]
