"""Attributes as a person reads them, and when two of them mean the same.

Called by `play` to compare what was said with what was heard, and to tell the difference. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from routing.bgp import path
from routing.bgp.attributes import EXTENDED, FLAGS, PARTIAL, Attribute, Code
from routing.bgp.notify import Notify

_LISTS: Final[Mapping[int, int]] = {Code.COMMUNITIES: 4, Code.EXTENDED_COMMUNITIES: 8, Code.LARGE_COMMUNITIES: 12}
_OF_OLD_SPEAKERS: Final = (Code.AS4_PATH, Code.AS4_AGGREGATOR)
_SHOWN: Final = 24
_WIDE: Final = 16
_OTC: Final = 35


def same(one: Attribute, other: Attribute) -> bool:
    """Tell whether two attributes mean the same: sets have no order, segments may be cut, a length has one octet or two."""
    return (_flags(one), one.code, _normal(one)) == (_flags(other), other.code, _normal(other))


def _flags(attribute: Attribute) -> int:
    # RFC 4271 5 has Partial set by who adds an attribute and is not the originator; RFC 6793, whose are these, is silent.
    return attribute.flags & ~(EXTENDED | (PARTIAL if attribute.code in _OF_OLD_SPEAKERS else 0))


def _normal(attribute: Attribute) -> object:
    size = _LISTS.get(attribute.code)
    if size is not None and not len(attribute.value) % size:
        return sorted({attribute.value[at : at + size] for at in range(0, len(attribute.value), size)})
    if attribute.code == Code.AS_PATH:
        return _path(attribute.value)
    return attribute.value


def _path(value: bytes) -> str:
    """Write a path; what is none of four octets may be one of two."""
    for width in (4, 2):
        try:
            segments = list(path.split(value, width))
        except ValueError:
            continue
        return " ".join(" ".join(map(str, asns)) if kind == 2 else f"{kind}:{asns}" for kind, asns in segments)  # noqa: PLR2004
    return value.hex()


def differences(wanted: Mapping[int, Attribute], found: Mapping[int, Attribute], *, exact: bool) -> list[str]:
    """Say what stands otherwise; `exact`: nothing else may be there."""
    said = []
    for code, attribute in sorted(wanted.items()):
        got = found.get(code)
        if got is None:
            said.append(f"no {name(code)}, not {shown(attribute)}")
        elif not same(attribute, got):
            said.append(f"{name(code)} {shown(got)}, not {shown(attribute)}{_flagged(attribute, got)}")
    if exact:
        said += [f"{name(code)} {shown(found[code])} was added" for code in sorted(found.keys() - wanted.keys())]
    return said


def _flagged(wanted: Attribute, found: Attribute) -> str:
    pair = [_flags(attribute) for attribute in (found, wanted)]
    if pair[0] == pair[1]:
        return ""
    if pair[0] ^ pair[1] == PARTIAL:
        return " (Partial is not set)" if pair[1] & PARTIAL else " (Partial is set)"
    return f" (flags {pair[0]:02x}, not {pair[1]:02x})"


def name(code: int) -> str:
    """Name an attribute."""
    if code == _OTC:
        return "OTC"
    return Code(code).name if code in FLAGS else f"attribute {code}"


def shown(attribute: Attribute) -> str:
    """Write a value."""
    try:
        return _WRITERS.get(attribute.code, _octets)(attribute.value)
    except (struct.error, ValueError, IndexError):
        return _octets(attribute.value)


def _octets(value: bytes) -> str:
    return (value[:_SHOWN].hex() or "empty") + ("..." if len(value) > _SHOWN else "")


def _number(value: bytes) -> str:
    return str(struct.unpack("!L", value)[0])


def _reach(value: bytes) -> str:
    hops = value[4 : 4 + value[3]]
    if len(hops) % _WIDE:
        return _octets(value)
    return " and ".join(str(IPv6Address(hops[at : at + _WIDE])) for at in range(0, len(hops), _WIDE))


def _tuples(form: str) -> Callable[[bytes], str]:
    def write(value: bytes) -> str:
        found = [":".join(map(str, numbers)) for numbers in struct.iter_unpack(form, value)]
        return " ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")  # noqa: PLR2004

    return write


def _short_path(value: bytes) -> str:
    words = _path(value).split()
    return " ".join(words[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "") or "empty"  # noqa: PLR2004


_WRITERS: Final[Mapping[int, Callable[[bytes], str]]] = {
    Code.AS_PATH: _short_path,
    Code.AS4_PATH: _short_path,
    Code.NEXT_HOP: lambda value: str(IPv4Address(value)),
    Code.MULTI_EXIT_DISC: _number,
    Code.LOCAL_PREF: _number,
    Code.COMMUNITIES: _tuples("!HH"),
    Code.LARGE_COMMUNITIES: _tuples("!LLL"),
    Code.MP_REACH_NLRI: _reach,
    _OTC: _number,
}


def ending(notified: Notify | None) -> str:
    """Say how a connection ended."""
    return (
        "without NOTIFICATION"
        if notified is None
        else f"with NOTIFICATION {notified.code}/{notified.subcode} ({notified})"
    )
