"""The single allocation of every number and name that marks an object as ours.

Route protocols, next-hop ids, conntrack zones, nft table, namespaces and device names are given out here and nowhere
else, so that two features can never claim the same one. Allocators refuse when full; they never wrap.
"""

from __future__ import annotations

import hashlib
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
#: Node ids: they pick port ranges and composed members, 1..63.
NODE_IDS: Final = 63

#: Ports below this are never used as a translated source.
FIRST_PORT: Final = 1024


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
