"""The port of `LinkAddress` facts: IPv4 and IPv6 addresses of ours on devices, marked by IFA_PROTO.

IPv6 addresses are added without duplicate address detection (RFC 4862 5.4), so that they can be used at once: the
intent already says whose they are. Numbers: include/uapi/linux/if_addr.h.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Interface, IPv6Interface
from typing import TYPE_CHECKING, Final

from appliance.kernel.entries import EntryPort
from appliance.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, Message, attribute, parse, u8, u32
from appliance.kernel.watching import ADDRESS4, ADDRESS6
from appliance.model.facts import LinkAddress
from appliance.model.marks import PROTO_BOX
from appliance.state.diff import Change, Plan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from appliance.kernel.devices import Device
    from appliance.kernel.port import Failure
    from appliance.model.facts import Namespace

RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS, IFA_PROTO = 1, 2, 8, 11
IFA_F_NODAD: Final = 0x02
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_HOST = 0, 253, 254
_IFADDR: Final = struct.Struct("=BBBBI")
_ALL: Final = Message(RTM_GETADDR, _IFADDR.pack(0, 0, 0, 0, 0))


class AddressesPort(EntryPort[LinkAddress]):
    """Addresses on devices."""

    subsystem = "address"
    groups = (ADDRESS4, ADDRESS6)

    def apply(self, plan: Plan[LinkAddress]) -> tuple[Failure, ...]:
        """Carry the changes out; the kernel deletes secondary addresses with their primary: put those back."""
        gone = frozenset(change.fact for change in plan.of("delete"))
        kept = self.read() - gone if gone else frozenset()
        failures = super().apply(plan)
        lost = kept - self.read() if gone else frozenset()
        back = Plan(tuple(Change("create", None, fact) for fact in sorted(lost, key=repr)))
        return failures + super().apply(back)

    def _dump(self, ns: Namespace, found: dict[int, Device]) -> Iterable[LinkAddress]:
        """Decode the addresses that carry our protocol number."""
        for payload in self._netlink.dump(ns, _ALL):
            family, length, _, _, index = _IFADDR.unpack_from(payload)
            held = parse(payload[_IFADDR.size :])
            if IFA_PROTO not in held or held[IFA_PROTO][0] != PROTO_BOX or index not in found:
                continue
            address = bytes(held[IFA_LOCAL] if IFA_LOCAL in held else held[IFA_ADDRESS])
            kind = IPv4Interface if family == socket.AF_INET else IPv6Interface
            yield LinkAddress(ns, found[index].name, kind((address, length)))

    def _message(self, change: Change[LinkAddress], index: int) -> Message:
        """Encode an address."""
        interface = change.fact.interface
        family = socket.AF_INET if isinstance(interface, IPv4Interface) else socket.AF_INET6
        body = _IFADDR.pack(family, interface.network.prefixlen, 0, _scope(interface), index)
        body += attribute(IFA_LOCAL, interface.packed) + attribute(IFA_ADDRESS, interface.packed)
        if change.operation == "delete":
            return Message(RTM_DELADDR, body)
        body += u8(IFA_PROTO, PROTO_BOX)
        body += u32(IFA_FLAGS, IFA_F_NODAD) if family == socket.AF_INET6 else b""
        return Message(RTM_NEWADDR, body, NLM_F_CREATE | NLM_F_EXCL)

    def _name(self, fact: LinkAddress) -> str:
        """Name the address."""
        return f"{fact.ns}/{fact.link} {fact.interface}"


def _scope(interface: IPv4Interface | IPv6Interface) -> int:
    """Return the scope in which the address is valid."""
    if interface.is_loopback:
        return RT_SCOPE_HOST
    return RT_SCOPE_LINK if interface.is_link_local else RT_SCOPE_UNIVERSE
