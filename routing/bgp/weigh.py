"""What the decision needs of an attribute set (RFC 4271 9.1.2.2, RFC 4456 9), taken from its octets without decoding them.

The reference of what `routing.bgp.hot` offers (design note 0008); the C form behaves the same and has the same tests.
"""

from __future__ import annotations

import struct
from typing import Final

from routing.bgp.scan import AS_PATH, ORIGIN, walk

DEFAULT_LOCAL_PREF: Final = 100
#: RFC 8326: use it only if there is nothing else.
GRACEFUL_SHUTDOWN: Final = (65535, 0)

_MED, _LOCAL_PREF, _COMMUNITIES, _ORIGINATOR_ID, _CLUSTER_LIST = 4, 5, 8, 9, 10
_AS_SET, _AS_SEQUENCE = 1, 2
_GRACEFUL: Final = struct.pack("!HH", *GRACEFUL_SHUTDOWN)

#: LOCAL_PREF, length of AS_PATH, ORIGIN, neighbouring AS (0: none), MED, ORIGINATOR_ID (-1: none), clusters.
Weight = tuple[int, int, int, int, int, int, int]


def weigh(octets: bytes, /) -> Weight | None:
    """Return what the decision looks at, of an attribute set that was found good. None: not to be read in short.

    LOCAL_PREF is what holds: 100 if there is none, 0 with the community GRACEFUL_SHUTDOWN.
    """
    attributes = walk(octets)
    if attributes is None:
        return None
    values = {attribute.kind: octets[attribute.value : attribute.end] for attribute in attributes}
    path = _path(values.get(AS_PATH, b""))
    numbers = [_number(values.get(kind)) for kind in (_LOCAL_PREF, _MED, _ORIGINATOR_ID)]
    origin, clusters = values.get(ORIGIN, b""), values.get(_CLUSTER_LIST, b"")
    if path is None or None in numbers or len(origin) != 1:
        return None
    local_pref, med, originator = (number or 0 for number in numbers)
    communities = values.get(_COMMUNITIES, b"")
    if _GRACEFUL in (communities[at : at + 4] for at in range(0, len(communities), 4)):
        local_pref = 0
    elif local_pref < 0:
        local_pref = DEFAULT_LOCAL_PREF
    return local_pref, *path[:1], origin[0], path[1], max(med, 0), originator, len(clusters) // 4


def _number(value: bytes | None) -> int | None:
    """Read four octets; -1 if they are not there, None if they are not four."""
    if value is None:
        return -1
    return int.from_bytes(value, "big") if len(value) == 4 else None  # noqa: PLR2004 - octets


def _path(value: bytes) -> tuple[int, int] | None:
    """Return the length of a path, an AS_SET counting one, and its first AS if that is in a sequence."""
    at, length, first = 0, 0, -1
    while at + 2 <= len(value):
        kind, number = value[at], value[at + 1]
        after = at + 2 + 4 * number
        if kind not in (_AS_SET, _AS_SEQUENCE) or not number or after > len(value):
            return None
        if first < 0:
            first = int.from_bytes(value[at + 2 : at + 6], "big") if kind == _AS_SEQUENCE else 0
        length += number if kind == _AS_SEQUENCE else 1
        at = after
    return (length, max(first, 0)) if at == len(value) else None
