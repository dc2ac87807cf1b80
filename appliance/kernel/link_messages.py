"""The rtnetlink requests that make, change, move and delete a device: facts in, messages out.

Called by `links` and `netns`. `Request.ns` is the namespace in which a message must be said: a vxlan device keeps its
underlay socket where it was made, so devices are made from HOST straight into their namespace (IFLA_NET_NS_FD).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Final

from appliance.kernel.devices import (
    AF_BRIDGE,
    IFF_UP,
    IFLA_ADDRESS,
    IFLA_BR_MCAST_SNOOPING,
    IFLA_BR_STP_STATE,
    IFLA_BRPORT_GROUP_FWD_MASK,
    IFLA_BRPORT_ISOLATED,
    IFLA_BRPORT_LEARNING,
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MTU,
    IFLA_NET_NS_FD,
    IFLA_PROTINFO,
    IFLA_VXLAN_ID,
    IFLA_VXLAN_LEARNING,
    IFLA_VXLAN_LOCAL,
    IFLA_VXLAN_LOCAL6,
    IFLA_VXLAN_PORT,
    PHYSICAL,
    RTM_DELLINK,
    RTM_NEWLINK,
    RTM_SETLINK,
    VETH_INFO_PEER,
    Device,
    link_message,
)
from appliance.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, Message, attribute, be16, nest, text, u8, u32
from appliance.model.facts import HOST, Link, Namespace
from appliance.model.marks import ALIAS, VXLAN_PORT

if TYPE_CHECKING:
    from appliance.kernel.namespaces import Namespaces

#: Groups 01:80:c2:00:00:00-0f that a port without learning passes like a cable: LLDP, LACP, 802.1X, spanning tree; all
#: but pause frames (01), which end at any port.
_GROUPS: Final = 0xFFFD


@dataclass(frozen=True, slots=True)
class Request:
    """A message and where to say it."""

    ns: Namespace
    message: Message


def alias(link: Link) -> str:
    """Return the alias that makes a device ours and says which optional fields its fact sets."""
    words = [PHYSICAL] if link.kind == "physical" else []
    words += [name for name in ("mtu", "mac", "port") if getattr(link, name) is not None]
    return " ".join((ALIAS, *words))


def create(namespaces: Namespaces, link: Link) -> Request:
    """Make a device (both ends of a veth), unmarked and down, in its namespace."""
    data = {"veth": _veth, "bridge": _bridge, "vxlan": _vxlan}[link.kind](namespaces, link)
    info = nest(IFLA_LINKINFO, text(IFLA_INFO_KIND, link.kind), nest(IFLA_INFO_DATA, *data))
    where = u32(IFLA_NET_NS_FD, namespaces.open_ns(link.ns))
    body = link_message() + text(IFLA_IFNAME, link.name) + where + info
    return Request(HOST, Message(RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL))


def configure(link: Link, device: Device, master: int) -> tuple[Message, ...]:
    """Mark a device, set what can change in place where it differs, raise or lower it; then what it is to its bridge."""
    body = link_message(device.index, IFF_UP if link.up else 0, IFF_UP) + text(IFLA_IFALIAS, alias(link))
    if link.mtu is not None and link.mtu != device.mtu:
        body += u32(IFLA_MTU, link.mtu)
    if link.mac is not None and link.mac != device.mac:
        body += attribute(IFLA_ADDRESS, bytes.fromhex(link.mac.replace(":", "")))
    if master != device.master:
        body += u32(IFLA_MASTER, master)
    change = Message(RTM_SETLINK, body)
    port = _port(link, device if master == device.master else None) if master else b""
    if not port:
        return (change,)
    return (change, Message(RTM_SETLINK, link_message(device.index, family=AF_BRIDGE) + nest(IFLA_PROTINFO, port)))


def _port(link: Link, device: Device | None) -> bytes:
    """Return what must change of a bridge port; None is one that has just become a port."""
    isolated, learning = (False, True) if device is None else (device.isolated, device.learning)
    changes = b""
    if link.isolated != isolated:
        changes += u8(IFLA_BRPORT_ISOLATED, int(link.isolated))
    if link.kind != "vxlan" and link.learning != learning:
        mask = 0 if link.learning else _GROUPS
        changes += u8(IFLA_BRPORT_LEARNING, int(link.learning))
        changes += attribute(IFLA_BRPORT_GROUP_FWD_MASK, struct.pack("=H", mask))
    return changes


def move_in(namespaces: Namespaces, link: Link, outside: Device) -> Request:
    """Mark a physical device and move it from HOST to its namespace."""
    body = link_message(outside.index) + u32(IFLA_NET_NS_FD, namespaces.open_ns(link.ns))
    return Request(HOST, Message(RTM_SETLINK, body + text(IFLA_IFALIAS, alias(link))))


def give_back(namespaces: Namespaces, ns: Namespace, device: Device) -> Request:
    """Release a physical device: no master, no mark, and back in HOST."""
    body = link_message(device.index) + attribute(IFLA_IFALIAS, b"")
    body += u32(IFLA_MASTER, 0) if device.master else b""
    body += u32(IFLA_NET_NS_FD, namespaces.open_ns(HOST)) if ns != HOST else b""
    return Request(ns, Message(RTM_SETLINK, body))


def delete(ns: Namespace, device: Device) -> Request:
    """Delete a device; a veth takes its other end with it."""
    return Request(ns, Message(RTM_DELLINK, link_message(device.index)))


def _veth(namespaces: Namespaces, link: Link) -> tuple[bytes, ...]:
    """Describe the other end."""
    assert link.peer is not None  # noqa: S101 - the compile names both ends
    ns, name = link.peer
    where = u32(IFLA_NET_NS_FD, namespaces.open_ns(ns))
    return (nest(VETH_INFO_PEER, link_message(), text(IFLA_IFNAME, name), where),)


def _bridge(_: Namespaces, __: Link) -> tuple[bytes, ...]:
    """No spanning tree, no multicast snooping: a port forwards as soon as it is up."""
    return (u32(IFLA_BR_STP_STATE, 0), u8(IFLA_BR_MCAST_SNOOPING, 0))


def _vxlan(_: Namespaces, link: Link) -> tuple[bytes, ...]:
    """VNI, our end of the tunnels, port and whether to learn from what arrives (RFC 7348)."""
    assert link.vni is not None  # noqa: S101 - the compile gives every vxlan device one
    data = [
        u32(IFLA_VXLAN_ID, link.vni),
        u8(IFLA_VXLAN_LEARNING, int(link.learning)),
        be16(IFLA_VXLAN_PORT, link.port or VXLAN_PORT),
    ]
    if link.local is not None:
        kind = IFLA_VXLAN_LOCAL if isinstance(link.local, IPv4Address) else IFLA_VXLAN_LOCAL6
        data.append(attribute(kind, link.local.packed))
    return tuple(data)
