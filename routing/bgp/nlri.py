"""Many prefixes at once: packed NLRI of one family as octets (RFC 4271 4.3), and filters over them.

The reference of what `routing.bgp.hot` offers (design note 0008); the C form behaves the same and has the same tests.
A prefix is its length in bits and as few octets as hold them. What `normal` has let through has no host bits and ends
where a prefix ends; everything here says ValueError if that is not so as far as it has to look.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from routing.bgp.values import Family, Network, PrefixRule

Rule = tuple[bytes, int, int]  # a network as prefix octets, and the lengths that it covers, both included

WIDTHS: Final = {Family.IPV4: 32, Family.IPV6: 128}

# Longer than any message, so that one comparison at the end of a walk finds lengths that are not allowed as well.
_NEVER = 1 << 40

_SIZES: Final = {
    width: tuple(1 + (length + 7) // 8 if length <= width else _NEVER for length in range(256)) for width in (32, 128)
}
_HOST_BITS: Final = tuple((1 << -length % 8) - 1 for length in range(256))


def each(nlri: bytes, width: int = 128) -> list[bytes]:
    """Return the prefixes one by one, each with its length octet."""
    sizes = _SIZES[width]
    prefixes = []
    at, end = 0, len(nlri)
    while at < end:
        after = at + sizes[nlri[at]]
        prefixes.append(nlri[at:after])
        at = after
    if at != end:
        raise ValueError("NLRI: a length is too long, or the octets end within a prefix")
    return prefixes


def normal(nlri: bytes, width: int, /) -> bytes:
    """Return the prefixes without host bits: the same object if they have none."""
    prefixes = each(nlri, check_width(width))
    # RFC 4271 4.3: "the value of trailing bits is irrelevant". The length octet stands for the last one of /0.
    dirty = [at for at, prefix in enumerate(prefixes) if prefix[0] and prefix[-1] & _HOST_BITS[prefix[0]]]
    if not dirty:
        return nlri
    for at in dirty:
        prefix = prefixes[at]
        prefixes[at] = prefix[:-1] + bytes((prefix[-1] & ~_HOST_BITS[prefix[0]],))
    return b"".join(prefixes)


def count(nlri: bytes, /) -> int:
    """Return how many prefixes there are."""
    return len(each(nlri))


def cut(nlri: bytes, room: int, /) -> list[bytes]:
    """Cut at prefix boundaries into pieces of at most `room` octets, each as full as possible."""
    sizes = _SIZES[128]
    pieces = []
    begin, at, end = 0, 0, len(nlri)
    while at < end:
        after = at + sizes[nlri[at]]
        if after - begin > room:
            if at > begin:
                pieces.append(nlri[begin:at])
                begin = at
            if after > end or after - begin > room:
                raise ValueError("NLRI: a prefix is longer than the room for it, or than what is there")
        at = after
    if at != end:
        raise ValueError("NLRI: the octets end within a prefix")
    return [*pieces, nlri[begin:]] if begin < end else pieces


def check_width(width: int) -> int:
    """Return the number of bits of an address if it is one."""
    if width not in _SIZES:
        raise ValueError("the width of addresses is 32 or 128")
    return width


class PrefixFilter:
    """Which prefixes are covered by any of the rules: one look for each distinct length of the rules' networks."""

    __slots__ = ("_everything", "_tables", "_width")

    def __init__(self, width: int, rules: Iterable[Rule], /) -> None:
        """Sort the rules by the length of their networks."""
        self._width = check_width(width)
        self._everything = False
        tables: dict[int, dict[int, list[tuple[int, int]]]] = {}
        for network, low, high in rules:
            if each(network, width) != [network]:
                raise ValueError("the network of a rule is one prefix")
            tables.setdefault(network[0], {}).setdefault(_head(network), []).append((low, high))
            self._everything |= network[0] == 0 and low <= 0 and high >= width
        self._tables = sorted(tables.items())

    def split(self, nlri: bytes, /) -> tuple[bytes, bytes]:
        """Return the prefixes that a rule covers and those that none does; `nlri` itself if it is one of the two."""
        if self._everything:
            return nlri, b""
        if not self._tables:
            return b"", nlri
        covered: list[bytes] = []
        others: list[bytes] = []
        for prefix in each(nlri, self._width):
            (covered if self._match(prefix) else others).append(prefix)
        if not others:
            return nlri, b""
        return (b"".join(covered), b"".join(others)) if covered else (b"", nlri)

    def covers_all(self, nlri: bytes, /) -> bool:
        """Tell whether every prefix is covered: what is asked first, for mostly it is so."""
        return not self.split(nlri)[1]

    def covers_none(self, nlri: bytes, /) -> bool:
        """Tell whether no prefix is covered."""
        return not self.split(nlri)[0]

    def _match(self, prefix: bytes) -> bool:
        wanted = prefix[0]
        number, bits = int.from_bytes(prefix[1:], "big"), 8 * len(prefix) - 8
        for length, by_network in self._tables:
            if length > wanted:
                return False
            for low, high in by_network.get(number >> (bits - length), ()):
                if low <= wanted <= high:
                    return True
        return False


def _head(network: bytes) -> int:
    """Return the bits of a network without its host bits."""
    return int.from_bytes(network[1:], "big") >> (8 * len(network) - 8 - network[0])


def pack(networks: Iterable[Network]) -> bytes:
    """Pack networks of one family."""
    return b"".join(
        bytes((network.prefixlen,)) + network.network_address.packed[: (network.prefixlen + 7) // 8]
        for network in networks
    )


def unpack(nlri: bytes, family: Family) -> list[Network]:
    """Return the prefixes as networks: for what a person reads, a hundred times as slow as anything else here."""
    width = WIDTHS[family]
    make = _ipv4 if family is Family.IPV4 else _ipv6
    return [make(prefix[1:].ljust(width // 8, b"\0"), prefix[0]) for prefix in each(nlri, width)]


def _ipv4(address: bytes, length: int) -> IPv4Network:
    return IPv4Network((IPv4Address(address), length))


def _ipv6(address: bytes, length: int) -> IPv6Network:
    return IPv6Network((IPv6Address(address), length))


def rules_of(rules: Iterable[PrefixRule], family: Family) -> list[Rule]:
    """Return the rules of one family as `PrefixFilter` takes them."""
    version = 4 if family is Family.IPV4 else 6
    return [
        (pack([rule.network]), rule.min_length, rule.max_length) for rule in rules if rule.network.version == version
    ]
