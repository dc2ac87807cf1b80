"""The single allocation of every number and name that marks an object as ours.

Route protocols, next-hop ids, conntrack zones and mark bits, nft table, namespaces and device names are given out here
and nowhere else, so that two features can never claim the same one. Allocators refuse when full; they never wrap.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from appliance.model.errors import InternalError

#: rtm_protocol / nh_protocol / IFA_PROTO of what the compile makes (connected services, VPC plumbing).
PROTO_BOX: Final = 217
#: rtm_protocol / nh_protocol of what BGP taught us.
PROTO_BGP: Final = 218
#: Value of IFLA_IFALIAS on devices we made, and on `lo` of namespaces we made.
ALIAS: Final = "edgeway"
#: The one nft table (family inet) we own in each namespace.
NFT_TABLE: Final = "edgeway"
#: UDP port of the VXLAN overlay (RFC 7348).
VXLAN_PORT: Final = 4789
#: Namespaces of VPC edges are called this plus the name of the VPC.
VPC_PREFIX: Final = "vpc-"
#: Names of the devices we make begin with this; an intent names no such device.
DEVICE_PREFIX: Final = "ew-"
#: Device pair through which a gateway sends what must be carried in a composed IPv6 destination.
COMPOSE_IN, COMPOSE_OUT = "ew-comp0", "ew-comp1"
#: Octets that the outer IPv6 header of a composed destination adds (RFC 2473).
COMPOSE_OVERHEAD: Final = 40
#: Octets that VXLAN over IPv4 adds (RFC 7348): Ethernet 14, IPv4 20, UDP 8, VXLAN 8.
VXLAN_OVERHEAD: Final = 50

#: Next-hop object ids: [BOX_NH, BGP_NH) for the compile, [BGP_NH, NH_END) for BGP.
BOX_NH, BGP_NH, NH_END = 0x0E00_0000, 0x0E10_0000, 0x0F00_0000
#: Conntrack zones of VPCs are 1000 plus the VPC's id, which is at most 60,000.
ZONE_BASE, VPC_IDS = 1000, 60_000
#: Conntrack zones of inline edges: ZONE_INLINE plus 256 times the edge's id, plus the number of the engine.
ZONE_INLINE, INLINE_IDS, INLINE_ENGINES = 61_440, 15, 254
#: Namespaces of inline edges are called this plus the edge's name; of engines that stand apart, "-" and its name too.
INLINE_PREFIX: Final = "inl-"
#: Node ids: they pick port ranges and composed members, 1..63.
NODE_IDS: Final = 63

#: Ports below this are never used as a translated source.
FIRST_PORT: Final = 1024

#: What a flow record's mark (CONNMARK, 32 bits) is made of: generation 12 | engine 8 | action 4 | object 8 (design 0004).
GENERATIONS, ENGINES, OBJECTS = 4095, 254, 255
GENERATION_SHIFT, ENGINE_SHIFT, ACTION_SHIFT = 20, 12, 8
GENERATION_MASK, ENGINE_MASK, ACTION_MASK, OBJECT_MASK = 0xFFF0_0000, 0x000F_F000, 0x0000_0F00, 0x0000_00FF
#: What the fast path compares: everything but the object.
JUDGED_MASK: Final = GENERATION_MASK | ENGINE_MASK | ACTION_MASK

#: Bit of a packet mark, while a flow is judged, that tells a decision (action and object) from other numbers.
DECIDED: Final = 0x8000_0000

#: Names inside our nft table that the program of flow records and the port share (design 0004).
DISPATCH: Final = "dispatch"
INSTRUCTIONS: Final = {4: "instructions4", 6: "instructions6"}

#: Packets that are steered to service node N of a namespace carry the packet mark STEER + N; table number the same.
STEER: Final = 0x5300
#: Service nodes of a VPC on one host: they are numbered from 1.
STEERS: Final = 63
#: Packet marks of inline edges: bit 16 tells the side, the low 16 bits the conntrack zone.
SIDE_SOUTH: Final = 0x1_0000
#: UDP port at which an edge takes instructions from service nodes, on their own links only.
INSTRUCT_PORT: Final = 4793


class Action(IntEnum):
    """What is done with the packets of a flow; the four bits of a mark."""

    ALLOW = 1
    DENY = 2
    REJECT = 3
    REDIRECT = 4
    SAMPLE = 5
    LIMIT = 6
    #: Given out, but no rule may ask for them yet: service chains and proxies make them real.
    CHAIN = 7
    PROXY = 8


#: What the dispatch map does with a flow that was judged: the chains must stand in the table.
VERDICTS: Final[dict[Action, str]] = {
    Action.ALLOW: "accept",
    Action.DENY: "drop",
    Action.REJECT: "goto do_reject",
    Action.REDIRECT: "goto do_redirect",
    Action.SAMPLE: "goto do_sample",
    Action.LIMIT: "goto do_limit",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """A flow record's mark, taken apart; generation 0 is a flow that was never judged."""

    generation: int
    engine: int
    action: int
    object: int = 0

    @classmethod
    def of(cls, word: int) -> Mark:
        """Take a mark apart."""
        return cls(
            word >> GENERATION_SHIFT,
            (word & ENGINE_MASK) >> ENGINE_SHIFT,
            (word & ACTION_MASK) >> ACTION_SHIFT,
            word & OBJECT_MASK,
        )

    @property
    def word(self) -> int:
        """The 32 bits."""
        return (
            self.generation << GENERATION_SHIFT
            | self.engine << ENGINE_SHIFT
            | self.action << ACTION_SHIFT
            | self.object
        )


def engine_chain(engine: int) -> str:
    """Return the name of the chain that stamps flows of an engine with its current generation."""
    if not 1 <= engine <= ENGINES:
        msg = f"engine {engine} is outside 1..{ENGINES}"
        raise InternalError(msg)
    return f"engine{engine}"


def inline_zone(edge_id: int, engine: int) -> int:
    """Return the conntrack zone of an engine of an inline edge."""
    if not (1 <= edge_id <= INLINE_IDS and 1 <= engine <= INLINE_ENGINES):
        msg = f"inline edge {edge_id}, engine {engine} is outside 1..{INLINE_IDS}, 1..{INLINE_ENGINES}"
        raise InternalError(msg)
    return ZONE_INLINE + 256 * edge_id + engine


def port_blocks(size: int, slot: int, slots: int) -> tuple[int, ...]:
    """Return the first ports of the blocks of `size` ports that a slot owns of any source NAT address."""
    first, last = -(-FIRST_PORT // size), 65536 // size
    return tuple(k * size for k in range(first, last) if k % slots == slot)


def vpc_zone(vpc_id: int) -> int:
    """Return the conntrack zone of a VPC (16 bits in the kernel)."""
    if not 1 <= vpc_id <= VPC_IDS:
        msg = f"VPC id {vpc_id} is outside 1..{VPC_IDS}"
        raise InternalError(msg)
    return ZONE_BASE + vpc_id


def vpc_namespace(vpc: str) -> str:
    """Return the name of a VPC's namespace on every host."""
    return VPC_PREFIX + vpc


def device(prefix: str, number: int) -> str:
    """Join a prefix and a number to a device name of at most 15 octets."""
    name = f"{prefix}{number}"
    if len(name) > 15:  # noqa: PLR2004 - IFNAMSIZ - 1
        msg = f"device name {name!r} is longer than 15"
        raise InternalError(msg)
    return name


def stable_mac(*parts: str) -> str:
    """Return a locally administered unicast MAC that depends on `parts` alone."""
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=5).hexdigest()
    return "02:" + ":".join(digest[i : i + 2] for i in range(0, 10, 2))
