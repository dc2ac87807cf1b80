"""Which member serves which slot of an address: rendezvous hashing, so that a member that leaves moves only its own.

Pure, and the same on every gateway, which therefore all send a flow to one member. The slots are what `ew_members` of
`bpf/compose.bpf.c` holds; the program picks one of them by the hash of the flow.
"""

from __future__ import annotations

import hashlib
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Address

#: As in compose.bpf.c. A member's share is a multiple of 1/64.
SLOTS: Final = 64
_WEIGHTS: Final = struct.Struct(f">{SLOTS}Q")


@lru_cache(maxsize=4096)
def _weights(address: IPv4Address, member: int) -> tuple[int, ...]:
    """Return how much a member wants each slot."""
    text = f"{address} {member}".encode()
    return _WEIGHTS.unpack(hashlib.shake_128(text).digest(_WEIGHTS.size))


def slots(address: IPv4Address, members: Iterable[int]) -> tuple[int, ...]:
    """Return the member of each slot, the one that wants it most; 0, which is nobody, where there are no members."""
    wanting = [(_weights(address, member), member) for member in members]
    if not wanting:
        return (0,) * SLOTS
    return tuple(max((weights[slot], member) for weights, member in wanting)[1] for slot in range(SLOTS))
