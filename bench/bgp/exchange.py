"""An exchange point as a value: its clients, and the policy that every route server is told in its own words.

The policy is what generators of route-server configurations write: of each client a route is taken if its prefix is no
bogon and one of those that are given out, its path begins with the client's AS, is not long and holds no AS that has no
business there (the server's own among them), its next hop is the client, and there are not too many (RFC 7947, RFC 7948,
RFC 8212). What is sent is limited to prefixes that are given out. Clients whose number differs share nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final

from routing.bgp.values import (
    Address,
    ExportPolicy,
    Family,
    ImportPolicy,
    Mode,
    Neighbor,
    Network,
    PrefixRule,
    Speaker,
)

#: The server.
AS, ROUTER_ID, PORT = 65000, IPv4Address("10.255.0.1"), 179
#: First and last of each range of AS numbers that must not be in a path.
FORBIDDEN: Final = ((0, 0), (23456, 23456), (64496, 64511), (65535, 65535))
LONGEST_PATH, MOST_PREFIXES, HOLD = 64, 1_000_000, 180
#: Clients are AS FIRST_AS + number; no path that a table makes up leads through any of them.
FIRST_AS: Final = 100_001

_SERVER: Final[dict[Family, Address]] = {Family.IPV4: ROUTER_ID, Family.IPV6: IPv6Address("fd00:255::1")}
#: Who is no client, and may look whether a server listens.
_STRANGER: Final[dict[Family, Address]] = {
    Family.IPV4: IPv4Address("10.255.0.2"),
    Family.IPV6: IPv6Address("fd00:255::2"),
}
PREFIX_LENGTH: Final = {Family.IPV4: 16, Family.IPV6: 64}
_CLIENTS_V4, _CLIENTS_V6 = int(IPv4Address("10.255.1.0")), int(IPv6Address("fd00:255::1:0"))
_BOGONS: Final = {
    Family.IPV4: (
        *("0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.2.0/24"),
        *("192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    ),
    Family.IPV6: (
        *("::/8", "100::/64", "2001:db8::/32", "2002::/16", "3ffe::/16"),
        *("fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
    ),
}
_OWNED: Final = {
    Family.IPV4: (
        ("16.0.0.0/4", 8, 24),
        ("32.0.0.0/3", 8, 24),
        ("64.0.0.0/2", 8, 24),
        ("128.0.0.0/2", 8, 24),
        ("192.0.0.0/3", 8, 24),
    ),
    Family.IPV6: (("2000::/3", 16, 48),),
}


@dataclass(frozen=True, slots=True)
class Client:
    """A client; prefixes in `hidden` are never sent to it."""

    number: int
    address: Address
    asn: int
    hidden: tuple[Network, ...] = ()

    @property
    def router_id(self) -> IPv4Address:
        """Return an identifier that no other client has."""
        return IPv4Address(_CLIENTS_V4 + self.number)


@dataclass(frozen=True, slots=True)
class Exchange:
    """Everybody at the exchange, of one family; `refused` is taken from no client, as bogons are not."""

    family: Family
    clients: tuple[Client, ...]
    refused: tuple[PrefixRule, ...] = ()

    @property
    def server(self) -> Address:
        """Return the address of the route server."""
        return _SERVER[self.family]

    @property
    def stranger(self) -> Address:
        """Return an address at the exchange that is no client's."""
        return _STRANGER[self.family]

    @property
    def never(self) -> tuple[PrefixRule, ...]:
        """Return what is taken from nobody."""
        return _bogons(self.family) + self.refused

    @property
    def owned(self) -> tuple[PrefixRule, ...]:
        """Return what is given out."""
        return tuple(PrefixRule(ip_network(text), low, high) for text, low, high in _OWNED[self.family])


def _bogons(family: Family) -> tuple[PrefixRule, ...]:
    width = 32 if family is Family.IPV4 else 128
    networks = (ip_network(text) for text in _BOGONS[family])
    return tuple(PrefixRule(network, network.prefixlen, width) for network in networks)


def client(number: int, family: Family, hidden: tuple[Network, ...] = ()) -> Client:
    """Return the client of a number."""
    address = IPv4Address(_CLIENTS_V4 + number) if family is Family.IPV4 else IPv6Address(_CLIENTS_V6 + number)
    return Client(number, address, FIRST_AS + number, hidden)


def exchange(clients: int, family: Family = Family.IPV4) -> Exchange:
    """Return an exchange of so many clients that differ in nothing but their number."""
    return Exchange(family, tuple(client(number, family) for number in range(clients)))


def speaker(at: Exchange) -> Speaker:
    """Say the exchange as the value that our engines are told."""
    owned, never = at.owned, at.never
    return Speaker(
        name="bench",
        mode=Mode.TRANSPARENT,
        asn=AS,
        router_id=ROUTER_ID,
        listen=(at.server,),
        port=PORT,
        neighbors=tuple(_neighbor(at, one, owned, never) for one in at.clients),
    )


def _neighbor(at: Exchange, one: Client, owned: tuple[PrefixRule, ...], never: tuple[PrefixRule, ...]) -> Neighbor:
    return Neighbor(
        name=f"client-{one.number}",
        asn=one.asn,
        address=one.address,
        local_address=at.server,
        families=(at.family,),
        imports=ImportPolicy(
            accept=owned,
            never=never,
            first_as=one.asn,
            forbidden_as=(*(asn for low, high in FORBIDDEN for asn in range(low, high + 1)), AS),
            max_path_length=LONGEST_PATH,
            next_hops=(ip_network(one.address),),
            max_prefixes=MOST_PREFIXES,
        ),
        exports=ExportPolicy(accept=owned, never=tuple(PrefixRule.exact(network) for network in one.hidden)),
        passive=True,
        hold_time=HOLD,
    )
