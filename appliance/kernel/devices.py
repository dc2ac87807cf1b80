"""What rtnetlink says about network devices: one dump decoded to `Device`s, and the numbers of rtnetlink.

Called by the ports of links, addresses, neighbours, forwarding entries and namespaces. Only the attributes we use are
decoded; statistics are not asked for (RTEXT_FILTER_SKIP_STATS). Numbers: include/uapi/linux/{rtnetlink,if_link}.h.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from appliance.kernel.netlink import Answer, Attributes, Message, attribute, parse, to_text, to_u32, u32
from appliance.model.facts import HOST
from appliance.model.marks import ALIAS

if TYPE_CHECKING:
    from appliance.kernel.exchanges import Netlink
    from appliance.model.facts import Address, Namespace

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_GETNSID: Final = 90
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
IFLA_IFALIAS, IFLA_NET_NS_FD, IFLA_EXT_MASK, IFLA_LINK_NETNSID = 20, 28, 29, 37
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_DATA, VETH_INFO_PEER = 1, 2, 5, 1
IFLA_PROTINFO, IFLA_BRPORT_LEARNING, IFLA_BRPORT_GROUP_FWD_MASK, IFLA_BRPORT_ISOLATED = 12, 8, 31, 33
IFLA_BR_STP_STATE, IFLA_BR_MCAST_SNOOPING = 5, 23
IFLA_VXLAN_ID, IFLA_VXLAN_LOCAL, IFLA_VXLAN_LEARNING, IFLA_VXLAN_PORT, IFLA_VXLAN_LOCAL6 = 1, 4, 7, 15, 17
NETNSA_NSID, NETNSA_FD = 1, 3
IFF_UP, IFF_LOWER_UP, LOOPBACK, AF_BRIDGE = 1, 1 << 16, 1, 7
_SKIP_STATS: Final = 8
_IFINFO: Final = struct.Struct("=BxHiII")
_NO_NSID: Final = 0xFFFF_FFFF

#: The word behind our alias that tells a device somebody else made and we only moved.
PHYSICAL: Final = "physical"


@dataclass(frozen=True, slots=True)
class Device:
    """One device as the kernel has it; `marks` are the words behind our alias, None if it is not ours.

    `link` is the other end of a veth, in the namespace that this one knows as `nsid` (None: the same). `learning` is a
    vxlan device's own, of others what they are to their bridge. `carrier` is false too while the device is not `up`.
    """

    index: int
    name: str
    kind: str
    marks: frozenset[str] | None
    up: bool
    mtu: int
    mac: str
    master: int
    link: int = 0
    nsid: int | None = None
    vni: int | None = None
    local: Address | None = None
    port: int | None = None
    learning: bool = True
    isolated: bool = False
    carrier: bool = False

    @property
    def ours(self) -> bool:
        """Whether it carries our alias; `lo` of our namespaces does, but is no link of ours."""
        return self.marks is not None and self.index != LOOPBACK

    @property
    def physical(self) -> bool:
        """Whether somebody else made it and we use it."""
        return self.marks is not None and PHYSICAL in self.marks


def link_message(index: int = 0, flags: int = 0, change: int = 0, family: int = 0) -> bytes:
    """Encode struct ifinfomsg."""
    return _IFINFO.pack(family, 0, index, flags, change)


def devices(netlink: Netlink, ns: Namespace) -> dict[str, Device]:
    """Return every device of a namespace by name."""
    request = Message(RTM_GETLINK, link_message() + u32(IFLA_EXT_MASK, _SKIP_STATS))
    return {device.name: device for device in map(decode, netlink.dump(ns, request))}


def indexes(netlink: Netlink, ns: Namespace) -> dict[str, int]:
    """Return the index of every device of a namespace by name."""
    return {name: device.index for name, device in devices(netlink, ns).items()}


def decode(payload: memoryview) -> Device:
    """Decode one RTM_NEWLINK."""
    _, _, index, flags, _ = _IFINFO.unpack_from(payload)
    found = parse(payload[16:])
    info = parse(found[IFLA_LINKINFO]) if IFLA_LINKINFO in found else {}
    kind = to_text(info[IFLA_INFO_KIND]) if IFLA_INFO_KIND in info else ""
    slave = parse(info[IFLA_INFO_SLAVE_DATA]) if IFLA_INFO_SLAVE_DATA in info else {}
    learns = bool(slave[IFLA_BRPORT_LEARNING][0]) if IFLA_BRPORT_LEARNING in slave else True
    vni, local, port, learning = _vxlan(info) if kind == "vxlan" else (None, None, None, learns)
    return Device(
        index=index,
        name=to_text(found[IFLA_IFNAME]),
        kind=kind,
        marks=_marks(to_text(found[IFLA_IFALIAS])) if IFLA_IFALIAS in found else None,
        up=bool(flags & IFF_UP),
        mtu=to_u32(found[IFLA_MTU]),
        mac=found[IFLA_ADDRESS].hex(":") if IFLA_ADDRESS in found else "",
        master=to_u32(found[IFLA_MASTER]) if IFLA_MASTER in found else 0,
        link=to_u32(found[IFLA_LINK]) if IFLA_LINK in found else 0,
        nsid=to_u32(found[IFLA_LINK_NETNSID]) if IFLA_LINK_NETNSID in found else None,
        vni=vni,
        local=local,
        port=port,
        learning=learning,
        isolated=bool(slave[IFLA_BRPORT_ISOLATED][0]) if IFLA_BRPORT_ISOLATED in slave else False,
        carrier=bool(flags & IFF_LOWER_UP),
    )


def _marks(alias: str) -> frozenset[str] | None:
    """Return the words behind our alias, None when it is another's."""
    first, *words = alias.split(" ")
    return frozenset(words) if first == ALIAS else None


def _vxlan(info: Attributes) -> tuple[int | None, Address | None, int | None, bool]:
    """Decode what we set of a vxlan device: VNI, local address, port, learning."""
    data = parse(info[IFLA_INFO_DATA])
    local: Address | None = None
    if IFLA_VXLAN_LOCAL in data:
        local = IPv4Address(bytes(data[IFLA_VXLAN_LOCAL]))
    elif IFLA_VXLAN_LOCAL6 in data:
        local = IPv6Address(bytes(data[IFLA_VXLAN_LOCAL6]))
    port = int.from_bytes(data[IFLA_VXLAN_PORT], "big")
    return to_u32(data[IFLA_VXLAN_ID]), local, port, bool(data[IFLA_VXLAN_LEARNING][0])


class Peers:
    """Which of our namespaces another one knows by a number (IFLA_LINK_NETNSID).

    Numbers are given by the kernel when first needed and stay as long as both namespaces live: asked once, checked by
    the identity of the namespace since.
    """

    def __init__(self, netlink: Netlink) -> None:
        """Know nothing."""
        self._netlink = netlink
        self._known: dict[tuple[object, int], tuple[Namespace, object]] = {}

    def namespace(self, ns: Namespace, nsid: int | None) -> Namespace | None:
        """Return the namespace that `ns` calls `nsid`; None if it is none of ours."""
        if nsid is None:
            return ns
        namespaces = self._netlink.namespaces
        key = (namespaces.identity(ns), nsid)
        known = self._known.get(key)
        if known and namespaces.exists(known[0]) and namespaces.identity(known[0]) == known[1]:
            return known[0]
        self._learn(ns)
        known = self._known.get(key)
        return known[0] if known else None

    def _learn(self, ns: Namespace) -> None:
        """Ask the numbers of all namespaces as seen from `ns`."""
        namespaces = self._netlink.namespaces
        here = namespaces.identity(ns)
        self._known = {key: value for key, value in self._known.items() if key[0] != here}
        for name in (HOST, *namespaces.names()):
            fd = attribute(NETNSA_FD, struct.pack("=I", namespaces.open_ns(name)))
            found = self._netlink.get(ns, Message(RTM_GETNSID, bytes(4) + fd))
            if isinstance(found, Answer):
                continue
            number = to_u32(parse(found[4:])[NETNSA_NSID])
            if number != _NO_NSID:
                self._known[here, number] = (name, namespaces.identity(name))
