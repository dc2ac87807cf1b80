"""Stages as nft text: the map of a stage, its elements, and the statement that looks a packet up in it.

Called by whoever writes the nft program. The text of an element is what libnftables prints for it (prefix, range or one
value; names for single protocols), because the reconciler compares texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv6Address
from typing import Final

from services.rules.compile import Stage
from services.rules.protocols import PROTOCOLS
from services.rules.rule import ANY_ADDRESS, ANY_PORT, ANY_PROTOCOL, FIELDS, Family, Field, Span

_ADDRESS_TYPE: Final[Mapping[Family, str]] = {4: "ipv4_addr", 6: "ipv6_addr"}
_ADDRESS_WORD: Final[Mapping[Family, str]] = {4: "ip", 6: "ip6"}
#: Every protocol, in words that tell nft 1.0.6 that `proto-src` is a port: it wants a protocol with ports in the list.
#: The kernel takes the port from the flow's tuple; a protocol without ports has 0 or an ICMP id there.
_ANY_PROTOCOL: Final = "meta l4proto { tcp, 0-5, 7-255 }"

_MAPPED: Final = 0xFFFF

#: Regions from which on a field that tells nothing is left out of a map: each costs a hundred octets a region. In smaller
#: maps it stays, so that a rule that needs it does not make the table anew.
MANY: Final = 1024
#: What a map of intervals in several fields must have at least.
_LEAST: Final = 2


def fields(stage: Stage, family: Family) -> tuple[Field, ...]:
    """Return the fields of the map of a stage, in order."""
    if len(stage.regions) < MANY:
        return stage.order
    idle = [field for field in reversed(stage.order) if _same(stage, family, field)]
    spare = len(stage.order) - _LEAST
    return tuple(field for field in stage.order if field not in idle[:spare])


def _same(stage: Stage, family: Family, field: Field) -> bool:
    """Tell whether a field is anything, or one protocol, in every region."""
    place = FIELDS.index(field)
    every = {"source": ANY_ADDRESS[family], "destination": ANY_ADDRESS[family], "port": ANY_PORT}
    first = next(iter(stage.regions))[place]
    wanted = every.get(field, ANY_PROTOCOL if first[0] != first[1] else first)
    return all(box[place] == wanted for box in stage.regions)


def _condition(stage: Stage, family: Family) -> str:
    """Match the protocol that is not part of the map."""
    if "protocol" in fields(stage, family):
        return ""
    span = next(iter(stage.regions))[FIELDS.index("protocol")]
    return "" if span == ANY_PROTOCOL else f"ct original protocol {_protocol(span)} "


def declaration(stage: Stage, name: str, family: Family) -> str:
    """Declare the map of a stage."""
    types = {
        "source": _ADDRESS_TYPE[family],
        "destination": _ADDRESS_TYPE[family],
        "protocol": "inet_proto",
        "port": "inet_service",
    }
    kept = " . ".join(types[field] for field in fields(stage, family))
    return f"map {name} {{ type {kept} : mark; flags interval; }}"


def lookups(stage: Stage, name: str, family: Family) -> tuple[str, ...]:
    """Return the statements that set the packet mark to the number of the set; the mark stays if there is no region.

    The key is the flow's own: the same for packets of either direction, after translation, and for ICMP errors.
    """
    return (f"{_ANY_PROTOCOL} {_condition(stage, family)}meta mark set {key(stage, family)} map @{name}",)


def key(stage: Stage, family: Family) -> str:
    """Return the expression that is looked up."""
    words = {
        "source": f"ct original {_ADDRESS_WORD[family]} saddr",
        "destination": f"ct reply {_ADDRESS_WORD[family]} saddr",
        "protocol": "ct original protocol",
        "port": "ct reply proto-src",
    }
    return " . ".join(words[field] for field in fields(stage, family))


def elements(stage: Stage, family: Family) -> Iterator[str]:
    """Yield the elements of the map of a stage."""
    kept = fields(stage, family)
    writers = [_Writer(_WRITERS[field, family]) for field in kept]
    places = [FIELDS.index(field) for field in kept]
    for box, number in stage.regions.items():
        spans = (writer[box[place]] for writer, place in zip(writers, places, strict=True))
        yield f"{' . '.join(spans)} : 0x{number:08x}"


class _Writer(dict[Span, str]):
    """Writes spans, each once."""

    def __init__(self, write: Callable[[Span], str]) -> None:
        super().__init__()
        self._write = write

    def __missing__(self, span: Span) -> str:
        text = self[span] = self._write(span)
        return text


def _ipv4(value: int) -> str:
    return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"


def _ipv6(value: int) -> str:
    """Write an address as inet_ntop(3) does: IPv4-compatible and IPv4-mapped ones end in dots."""
    if value >> 32 == 0 and value >> 16:
        return f"::{_ipv4(value)}"
    if value >> 32 == _MAPPED:
        return f"::ffff:{_ipv4(value & 0xFFFF_FFFF)}"
    return str(IPv6Address(value))


def _addresses(write: Callable[[int], str], width: int) -> Callable[[Span], str]:
    def text(span: Span) -> str:
        low, high = span
        size = high - low + 1
        if size == 1:
            return write(low)
        if size & (size - 1) == 0 and low % size == 0:
            return f"{write(low)}/{width - size.bit_length() + 1}"
        return f"{write(low)}-{write(high)}"

    return text


def _port(span: Span) -> str:
    return str(span[0]) if span[0] == span[1] else f"{span[0]}-{span[1]}"


def _protocol(span: Span) -> str:
    return PROTOCOLS.get(span[0], str(span[0])) if span[0] == span[1] else f"{span[0]}-{span[1]}"


_WRITERS: Final[Mapping[tuple[Field, Family], Callable[[Span], str]]] = {
    **dict.fromkeys((("source", 4), ("destination", 4)), _addresses(_ipv4, 32)),
    **dict.fromkeys((("source", 6), ("destination", 6)), _addresses(_ipv6, 128)),
    **dict.fromkeys((("protocol", 4), ("protocol", 6)), _protocol),
    **dict.fromkeys((("port", 4), ("port", 6)), _port),
}
