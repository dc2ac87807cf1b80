"""Source NAT on every host with port blocks of one shared address, and one-to-one translation (design 0003).

The ports of an address are cut into blocks. Block k belongs to the host whose slot is k modulo the number of slots, for
ever: no two hosts can ever claim one block, and taking another block needs no agreement, only an announcement before
its first use. New flows use the newest block; older ones serve the flows they have.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from appliance.model.composed import Composed, Kind
from appliance.model.facts import HOST, Advertisement, Decapsulate, Hop, NftSet, Route
from appliance.model.intent import SourceNat, Vpc
from appliance.model.marks import PROTO_BOX, port_blocks
from services.feature import EdgeParts
from services.place import Place


def own_blocks(nat: SourceNat, slot: int, slots: int) -> tuple[int, ...]:
    """Return the first ports of all blocks that a slot owns, in the order in which they are taken."""
    return port_blocks(nat.block, slot, slots)


def block_network(nat: SourceNat, start: int, composed: IPv6Network) -> IPv6Network:
    """Return the composed prefix of the block that starts at a port."""
    return Composed(Kind.SNAT, nat.address, start, nat.block).network(composed)


def compile_snat(place: Place, vpc: Vpc, taken: tuple[int, ...]) -> EdgeParts:
    """Translate what leaves the VPC to the newest taken block; receive all taken blocks by their composed prefixes."""
    nat = vpc.snat
    if nat is None:
        return EdgeParts()
    blocks = own_blocks(nat, place.slot, place.slots)
    # What was taken under another intent may name blocks that there are no more.
    held = [index for index in dict.fromkeys(taken) if 0 <= index < len(blocks)]
    starts = [blocks[index] for index in held or (0,)]
    low, high = starts[-1], starts[-1] + nat.block - 1
    statement = (
        f'oifname "{place.uplink}" ip saddr {vpc.subnet} meta l4proto {{ tcp, udp, icmp }} '
        f"snat ip to {nat.address}:{low}-{high}"
    )
    networks = [block_network(nat, start, place.composed) for start in starts]
    hop = Hop(place.host_end, None, Decapsulate(place.inward_address))
    return EdgeParts(
        postrouting=(statement,),
        routes=tuple(Route(HOST, network, (hop,), PROTO_BOX) for network in networks),
        advertisements=tuple(Advertisement(network, "snat", place.vpc) for network in networks),
    )


def compile_floating(place: Place, vpc: Vpc) -> EdgeParts:
    """Translate one to one between the public and the private address of guests that stand here."""
    local = {g.address: g.public for g in vpc.guests.values() if g.host == place.node and g.public is not None}
    if not local:
        return EdgeParts()
    inward = frozenset(f"{public} : {private}" for private, public in local.items())
    outward = frozenset(f"{private} : {public}" for private, public in local.items())
    hop = Hop(place.host_end, place.uplink_address)
    publics = sorted(local.values())
    return EdgeParts(
        declarations=(
            "map floating_in { type ipv4_addr : ipv4_addr; }",
            "map floating_out { type ipv4_addr : ipv4_addr; }",
        ),
        prerouting=("dnat ip to ip daddr map @floating_in",),
        postrouting=(f'oifname "{place.uplink}" snat ip to ip saddr map @floating_out',),
        sets=(NftSet(place.ns, "floating_in", inward), NftSet(place.ns, "floating_out", outward)),
        routes=tuple(Route(HOST, IPv4Network(public), (hop,), PROTO_BOX) for public in publics),
        advertisements=tuple(Advertisement(IPv4Network(public), "floating", place.vpc) for public in publics),
    )


def next_block(nat: SourceNat, slot: int, slots: int, taken: tuple[int, ...], used: dict[int, int]) -> tuple[int, ...]:
    """Return the blocks to hold from now on; `used` counts ports in use by index of block, newest last in the result.

    While the newest block is below the watermark nothing changes. Above it the emptiest block in hand that is below
    the watermark becomes the newest, else the next of the host's own sequence; when all are full, nothing changes.
    """
    taken = taken or (0,)
    limit = nat.watermark * nat.block
    if used.get(taken[-1], 0) < limit:
        return taken
    free = [index for index in taken[:-1] if used.get(index, 0) < limit / 2]
    if free:
        best = min(free, key=lambda index: used.get(index, 0))
        return (*(index for index in taken if index != best), best)
    total = len(own_blocks(nat, slot, slots))
    fresh = next((index for index in range(total) if index not in taken), None)
    return taken if fresh is None else (*taken, fresh)


def block_of(port: int, nat: SourceNat, slot: int, slots: int) -> int | None:
    """Return the index, in a host's own sequence, of the block that holds a port; None if it is another host's."""
    blocks = own_blocks(nat, slot, slots)
    start = port - port % nat.block
    return blocks.index(start) if start in blocks else None
