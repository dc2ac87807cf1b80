"""The ports of `Neighbour` and `FdbEntry` facts: permanent entries of the neighbour tables and of vxlan devices.

Neighbours of ours carry NDA_PROTOCOL. Forwarding entries have no owner field: those that are permanent and have a
remote end, on vxlan devices that carry our alias, are ours. Numbers: include/uapi/linux/neighbour.h.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING, Final

from appliance.kernel.devices import AF_BRIDGE, Device
from appliance.kernel.entries import EntryPort
from appliance.kernel.netlink import NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE, Message, attribute, parse, u8
from appliance.kernel.watching import NEIGH
from appliance.model.facts import FdbEntry, Neighbour
from appliance.model.marks import PROTO_BOX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from appliance.model.facts import Namespace
    from appliance.state.diff import Change

RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
NDA_DST, NDA_LLADDR, NDA_PROTOCOL = 1, 2, 12
NUD_PERMANENT, NTF_SELF = 0x80, 0x02
#: The entry to which a vxlan device sends what it does not know; it may have many remotes (RFC 7348 4.2).
EVERYONE: Final = "00:00:00:00:00:00"
_NDMSG: Final = struct.Struct("=BxxxiHBB")


def _mac(text: str) -> bytes:
    """Encode a MAC address."""
    return attribute(NDA_LLADDR, bytes.fromhex(text.replace(":", "")))


class NeighboursPort(EntryPort[Neighbour]):
    """Permanent neighbours."""

    subsystem = "neighbour"
    groups = (NEIGH,)

    def _dump(self, ns: Namespace, found: dict[int, Device]) -> Iterable[Neighbour]:
        """Decode the entries that carry our protocol number."""
        for payload in self._netlink.dump(ns, Message(RTM_GETNEIGH, _NDMSG.pack(0, 0, 0, 0, 0))):
            _, index, state, _, _ = _NDMSG.unpack_from(payload)
            held = parse(payload[_NDMSG.size :])
            if NDA_PROTOCOL not in held or held[NDA_PROTOCOL][0] != PROTO_BOX or not state & NUD_PERMANENT:
                continue
            if index in found and NDA_LLADDR in held:
                address = ip_address(bytes(held[NDA_DST]))
                yield Neighbour(ns, found[index].name, address, held[NDA_LLADDR].hex(":"))

    def _message(self, change: Change[Neighbour], index: int) -> Message:
        """Encode a neighbour; it replaces what the kernel may have learned."""
        fact = change.fact
        family = socket.AF_INET if isinstance(fact.address, IPv4Address) else socket.AF_INET6
        body = _NDMSG.pack(family, index, NUD_PERMANENT, 0, 0) + attribute(NDA_DST, fact.address.packed)
        if change.operation == "delete":
            return Message(RTM_DELNEIGH, body)
        return Message(RTM_NEWNEIGH, body + _mac(fact.mac) + u8(NDA_PROTOCOL, PROTO_BOX), NLM_F_CREATE | NLM_F_REPLACE)

    def _name(self, fact: Neighbour) -> str:
        """Name the neighbour."""
        return f"{fact.ns}/{fact.link} {fact.address}"


class FdbPort(EntryPort[FdbEntry]):
    """Permanent forwarding entries of vxlan devices."""

    subsystem = "fdb"
    groups = (NEIGH,)

    def _dump(self, ns: Namespace, found: dict[int, Device]) -> Iterable[FdbEntry]:
        """Decode the entries of our vxlan devices."""
        ours = {index for index, device in found.items() if device.kind == "vxlan" and device.ours}
        if not ours:
            return
        for payload in self._netlink.dump(ns, Message(RTM_GETNEIGH, _NDMSG.pack(AF_BRIDGE, 0, 0, 0, 0))):
            _, index, state, _, _ = _NDMSG.unpack_from(payload)
            if index not in ours or not state & NUD_PERMANENT:
                continue
            held = parse(payload[_NDMSG.size :])
            if NDA_DST in held:
                remote = ip_address(bytes(held[NDA_DST]))
                yield FdbEntry(ns, found[index].name, held[NDA_LLADDR].hex(":"), remote)

    def _message(self, change: Change[FdbEntry], index: int) -> Message:
        """Encode an entry: one more remote for everyone, the only remote for a MAC."""
        fact = change.fact
        body = _NDMSG.pack(AF_BRIDGE, index, NUD_PERMANENT, NTF_SELF, 0)
        body += attribute(NDA_DST, fact.remote.packed) + _mac(fact.mac)
        if change.operation == "delete":
            return Message(RTM_DELNEIGH, body)
        return Message(RTM_NEWNEIGH, body, NLM_F_CREATE | (NLM_F_APPEND if fact.mac == EVERYONE else NLM_F_REPLACE))

    def _name(self, fact: FdbEntry) -> str:
        """Name the entry."""
        return f"{fact.ns}/{fact.link} {fact.mac} at {fact.remote}"
