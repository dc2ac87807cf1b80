"""The two forms of the hot layer of routing.bgp, and octets to try them with: good, nearly good and hostile."""

from __future__ import annotations

import struct
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import strategies as st

from routing.bgp import encode, nlri, scan, table, weigh

try:
    from routing.bgp import _hot as compiled
except ImportError:
    compiled = None  # type: ignore[assignment] # it is built where there is a compiler

PYTHON = SimpleNamespace(
    normal=nlri.normal,
    count=nlri.count,
    cut=nlri.cut,
    PrefixFilter=nlri.PrefixFilter,
    PrefixTable=table.PrefixTable,
    split=scan.split,
    lift=scan.lift,
    scan=scan.scan,
    announce=encode.announce,
    withdraw=encode.withdraw,
    weigh=weigh.weigh,
)
C: Any = compiled

Form = SimpleNamespace | ModuleType

needs_c = pytest.mark.skipif(compiled is None, reason="routing.bgp._hot is not built")
both_forms = pytest.mark.parametrize(
    "form", [pytest.param(PYTHON, id="python"), pytest.param(C, id="c", marks=needs_c)]
)
both_widths = pytest.mark.parametrize("width", [32, 128])


def outcome(function: Callable[..., Any], *arguments: Any) -> tuple[str, Any]:
    """Return what comes of a call, so that two calls can be compared."""
    try:
        return "returned", function(*arguments)
    except (ValueError, OverflowError) as error:
        return "raised", type(error)


def prefix_octets(length: int, bits: int, width: int) -> bytes:
    """Return the prefix whose first `length` bits are the first ones of `bits`, a number of `width` bits."""
    kept = bits >> (width - length) << (width - length)
    return bytes((length,)) + kept.to_bytes(width // 8, "big")[: (length + 7) // 8]


def prefixes(width: int) -> st.SearchStrategy[bytes]:
    """Make prefixes; many are alike, many share their first bits."""
    few = st.integers(0, 3).map(lambda number: number << (width - 10))
    bits = few | st.integers(0, (1 << width) - 1)
    return st.builds(
        prefix_octets, st.sampled_from((0, 1, 8, 9, 16, 24, width)) | st.integers(0, width), bits, st.just(width)
    )


def packed(width: int, max_size: int = 40) -> st.SearchStrategy[bytes]:
    """Make packed NLRI."""
    return st.lists(prefixes(width), max_size=max_size).map(b"".join)


# Lengths that are none, prefixes that end too early, host bits.
hostile = st.binary(max_size=60) | st.lists(st.integers(0, 40), max_size=60).map(bytes)


def attribute(flags: int, kind: int, value: bytes) -> bytes:
    """Write a path attribute; the flags say how long its length is."""
    size = struct.pack(">H", len(value)) if flags & scan.EXTENDED else bytes((len(value) & 0xFF,))
    return bytes((flags, kind)) + size + value


def message(kind: int, body: bytes) -> bytes:
    """Write a message."""
    return scan.MARKER + struct.pack(">HB", scan.HEADER_SIZE + len(body), kind) + body


def update(withdrawn: bytes, attributes: bytes, announced: bytes) -> bytes:
    """Write an UPDATE."""
    sizes = struct.pack(">H", len(withdrawn)), struct.pack(">H", len(attributes))
    return message(scan.UPDATE, sizes[0] + withdrawn + sizes[1] + attributes + announced)


def mp_reach(afi: int, next_hop: bytes, announced: bytes = b"", safi: int = 1) -> bytes:
    """Write the value of a MP_REACH_NLRI."""
    return struct.pack(">HBB", afi, safi, len(next_hop)) + next_hop + b"\0" + announced


def path(*asns: int, kind: int = 2) -> bytes:
    """Write one segment of an AS_PATH."""
    return bytes((kind, len(asns))) + struct.pack(f">{len(asns)}I", *asns)


IPV6 = bytes.fromhex("20010db8000000000000000000000001")
LINK_LOCAL = bytes.fromhex("fe800000000000000000000000000001")

# Flags, types and values of ordinary attributes, and some that are nearly so.
_GOOD = {
    1: (0x40, [b"\0", b"\1", b"\2"]),
    2: (0x40, [b"", path(65001), path(65001, 4200000000, 3), path(1) + path(2, 3)]),
    3: (0x40, [b"\xc0\0\2\1"]),
    4: (0x80, [b"\0\0\0\1"]),
    5: (0x40, [b"\0\0\0\1"]),
    6: (0x40, [b""]),
    7: (0xC0, [b"\0\0\0\1\xc0\0\2\1", b"\0\0\0\0\xc0\0\2\1"]),
    8: (0xC0, [b"\0\1\0\2", b"\0\1\0\2" * 70, b""]),
    9: (0x80, [b"\xc0\0\2\1"]),
    10: (0x80, [b"\xc0\0\2\1" * 2]),
    14: (
        0x80,
        [mp_reach(2, IPV6), mp_reach(2, IPV6 + LINK_LOCAL, b"\x20\x20\x01\x0d\xb8"), mp_reach(1, b"\xc0\0\2\1", b"\0")],
    ),
    15: (0x80, [b"\0\2\1", b"\0\2\1\x20\x20\x01\x0d\xb8", b"\0\1\1\0", b"\0\2"]),
    16: (0xC0, [bytes(8), bytes(16), bytes(7)]),
    32: (0xC0, [bytes(12), bytes(24), bytes(4)]),
    128: (0xC0, [b"", b"abc"]),
}


@st.composite
def _attributes(draw: st.DrawFn, kind: int) -> bytes:
    flags, values = _GOOD[kind]
    flags ^= draw(st.sampled_from((0,) * 6 + (0x10, 0x10, 0x20, 0x80, 0x01)))
    value = draw(st.sampled_from(values * 4 + [values[0][:-1], values[0] + b"\0", b"\2\0"]))
    if kind == 2 and draw(st.integers(0, 9)) == 0:
        value = draw(st.sampled_from((path(1, kind=1), path(1) + b"\2\0", path(1) + b"\2", path(1, 2)[:-1])))
    return attribute(flags if len(value) < 256 else flags | 0x10, kind, value)


@st.composite
def attribute_sets(draw: st.DrawFn) -> bytes:
    """Make attributes, ordinary ones, nearly ordinary ones and such that end too early."""
    optional = draw(st.lists(st.sampled_from(sorted(_GOOD)), max_size=5, unique=draw(st.integers(0, 5)) > 0))
    wanted = draw(st.sampled_from(([14, 1, 2], [1, 2, 3], [1, 2, 3], [])))
    kinds = wanted + [kind for kind in optional if kind not in wanted or draw(st.integers(0, 9)) == 0]
    octets = b"".join(draw(_attributes(kind)) for kind in kinds)
    return octets[: draw(st.integers(0, len(octets)))] if draw(st.integers(0, 9)) == 0 else octets
