"""Which member serves which slot of a flow table: rendezvous hashing, so that a member that leaves moves only its own.

Pure. The slots are what `ew_members` in compose.bpf.c holds for each address.
"""

from __future__ import annotations

import hashlib
from functools import cache
from ipaddress import IPv4Address
from typing import Final

#: Slots per address; as in compose.bpf.c. A member's share is a multiple of 1/64.
SLOTS: Final = 64


@cache
def _weight(address: IPv4Address, slot: int, member: int) -> bytes:
    text = f"{address} {slot} {member}".encode()
    return hashlib.blake2b(text, digest_size=8).digest()


def slots(address: IPv4Address, members: tuple[int, ...]) -> tuple[int, ...]:
    """Return the member of each slot: the one with the highest weight there."""
    return tuple(max(members, key=lambda member: _weight(address, slot, member)) for slot in range(SLOTS))
