"""Ask the kernel where one packet would go: a single RTM_GETROUTE, answered by the kernel's own look-up.

Not a port of facts: nothing is read or made. Called by whoever explains (`edgeway trace`): rules of marks, tables and
next-hop groups all have their say, as for a real packet. Numbers: include/uapi/linux/rtnetlink.h.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Literal, Protocol

from appliance.kernel.devices import indexes
from appliance.kernel.exchanges import Netlink
from appliance.kernel.netlink import NETLINK_ROUTE, Answer, Message, attribute, parse, to_u32, u32
from appliance.kernel.rtnetlink import RTA_DST, RTA_GATEWAY, RTA_OIF, RTA_VIA, RTM_GETROUTE
from appliance.model.errors import KernelError
from appliance.model.facts import Hop

if TYPE_CHECKING:
    from appliance.kernel.namespaces import Namespaces
    from appliance.model.facts import Address, Namespace

RTA_SRC, RTA_IIF, RTA_MARK = 2, 3, 16
_RTMSG: Final = struct.Struct("=BBBBBBBBI")
_FAMILY: Final = {4: 2, 6: 10}

#: What becomes of the packet: only `unicast` has a hop.
Kind = Literal["unicast", "local", "broadcast", "multicast", "blackhole", "unreachable", "prohibit"]
_KINDS: Final[dict[int, Kind]] = {
    1: "unicast", 2: "local", 3: "broadcast", 5: "multicast", 6: "blackhole", 7: "unreachable", 8: "prohibit",
}  # fmt: skip
#: What the kernel answers instead of such a route.
_REFUSED: Final[dict[int, Kind]] = {
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTUNREACH: "unreachable",
    errno.EINVAL: "blackhole",
    errno.EACCES: "prohibit",
}


@dataclass(frozen=True, slots=True)
class Query:
    """A packet: with `device` one that came in there, else one of the namespace's own."""

    destination: Address
    source: Address | None = None
    device: str = ""
    mark: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """Where it goes."""

    kind: Kind
    hop: Hop | None = None


class RouteLookup(Protocol):
    """What the real one and the fake can do."""

    def look_up(self, ns: Namespace, query: Query) -> Found:
        """Return where a packet of a namespace would go; KernelError if there is no such namespace or device."""
        ...


class KernelRouteLookup:
    """The kernel's answer."""

    def __init__(self, namespaces: Namespaces) -> None:
        """Speak rtnetlink in `namespaces`."""
        self._netlink = Netlink(namespaces, NETLINK_ROUTE, "route")

    def look_up(self, ns: Namespace, query: Query) -> Found:
        """Ask."""
        names = indexes(self._netlink, ns)
        if query.device and query.device not in names:
            raise KernelError("route", f"{ns}/{query.device}", errno.ENODEV)
        said = self._netlink.get(ns, Message(RTM_GETROUTE, request(query, names.get(query.device, 0))))
        if not isinstance(said, Answer):
            return decode(said, {index: name for name, index in names.items()})
        if said.errno in _REFUSED:
            return Found(_REFUSED[said.errno])
        raise self._netlink.error(f"{ns} look-up of {query.destination}", said)


def request(query: Query, index: int) -> bytes:
    """Encode the question; `index` is the number of the device, if the packet came in."""
    width = query.destination.max_prefixlen
    source = query.source if index else None
    body = _RTMSG.pack(_FAMILY[query.destination.version], width, width if source else 0, 0, 0, 0, 0, 0, 0)
    body += attribute(RTA_DST, query.destination.packed)
    body += attribute(RTA_SRC, source.packed) if source else b""
    body += u32(RTA_IIF, index) if index else b""
    return body + (u32(RTA_MARK, query.mark) if query.mark else b"")


def decode(payload: memoryview, names: dict[int, str]) -> Found:
    """Decode the answer; `names` are the devices by number."""
    kind = _KINDS.get(_RTMSG.unpack_from(payload)[7], "unreachable")
    found = parse(payload[_RTMSG.size :])
    if kind != "unicast" or RTA_OIF not in found:
        return Found(kind)
    via = bytes(found[RTA_GATEWAY]) if RTA_GATEWAY in found else bytes(found.get(RTA_VIA, b""))[2:]
    return Found(kind, Hop(names.get(to_u32(found[RTA_OIF]), "?"), ip_address(via) if via else None))
