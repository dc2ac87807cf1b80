"""Packed prefixes as text and back, many at once: a table has more prefixes than anything else that is written or read.

Called by `answers` for the daemon and by `exabgp_codec` for ExaBGP. Pure. `ipaddress` would be ten times as slow.
"""

from __future__ import annotations

from collections.abc import Iterable
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final

from routing.bgp.hot import normal
from routing.bgp.nlri import WIDTHS, each
from routing.bgp.values import Family

_KINDS: Final = {Family.IPV4: AF_INET, Family.IPV6: AF_INET6}
_ZERO: Final = b"\0"


def unpacked(nlri: bytes, family: Family) -> list[str]:
    """Write prefixes of one family."""
    kind, octets = _KINDS[family], WIDTHS[family] // 8
    return [f"{inet_ntop(kind, prefix[1:].ljust(octets, _ZERO))}/{prefix[0]}" for prefix in each(nlri)]


def packed(prefixes: Iterable[str], family: Family) -> bytes:
    """Read prefixes of one family, whose host bits mean nothing; ValueError for anything else."""
    kind = _KINDS[family]
    try:
        return normal(b"".join(_packed(prefix, kind) for prefix in prefixes), WIDTHS[family])
    except OSError as error:
        raise ValueError("not an address of the family") from error


def _packed(prefix: str, kind: int) -> bytes:
    address, _, length = prefix.partition("/")
    bits = int(length)
    return bytes((bits,)) + inet_pton(kind, address)[: (bits + 7) // 8]
