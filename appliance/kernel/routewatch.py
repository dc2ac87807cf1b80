"""What may change our routes without us, as a stream of reasons to read them again.

The kernel is given a classic BPF filter for each listening socket: routes and next hops of other protocols, and those
we change ourselves (known by the port id of our request socket), never wake us, so that applying 200,000 routes does not
overrun our own listener. Devices are told always, for a device that goes down takes next hops and routes with it and
the kernel says nothing of those; only a change of whether it carries packets is a reason. Called by `routes`.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from typing import TYPE_CHECKING, Final

from appliance.kernel.devices import RTM_DELLINK, RTM_NEWLINK
from appliance.kernel.netlink import NETLINK_ROUTE, messages
from appliance.kernel.rtnetlink import RTM_DELNEXTHOP, RTM_DELROUTE, RTM_NEWNEXTHOP, RTM_NEWROUTE
from appliance.kernel.watching import CARRIER, LINK, Watcher
from appliance.model.marks import PROTO_BGP, PROTO_BOX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from appliance.kernel.namespaces import Namespaces
    from appliance.model.facts import Namespace

#: RTNLGRP_*
IPV4_ROUTE, IPV6_ROUTE, NEXTHOP = 7, 11, 32
SO_ATTACH_FILTER: Final = 26
IFF_UP, IFF_LOWER_UP = 1, 0x10000
#: ifi_change of the message that tells a new device.
_NEW: Final = 0xFFFF_FFFF
_IFINFO: Final = struct.Struct("=BxHiII")
#: Where a protocol number stands: after the netlink header, in rtmsg and nhmsg.
_ROUTE_PROTO, _NEXTHOP_PROTO, _TYPE, _PORT_ID = 16 + 5, 16 + 2, 4, 12
_INSTRUCTION: Final = struct.Struct("=HBBI")
_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE, _JUMP_EQUAL, _RETURN = 0x20, 0x28, 0x30, 0x15, 0x06


def _swapped(value: int, size: int) -> int:
    """Return what a filter sees of a number in host order: it loads everything as network order."""
    return int.from_bytes(value.to_bytes(size, sys.byteorder), "big")


def filter_program(own: int) -> bytes:
    """Assemble the filter: all devices; routes and next hops of our protocols that another port id changed."""
    kinds = [(RTM_NEWLINK, "take"), (RTM_DELLINK, "take")]
    kinds += [(RTM_NEWROUTE, "route"), (RTM_DELROUTE, "route"), (RTM_NEWNEXTHOP, "hop"), (RTM_DELNEXTHOP, "hop")]
    lines: list[tuple[int, str, str, int]] = [(_LOAD_HALF, "", "", _TYPE)]
    lines += [(_JUMP_EQUAL, target, "", _swapped(kind, 2)) for kind, target in kinds]
    lines.append((_RETURN, "", "", 0))
    labels = {"route": len(lines)}
    lines.append((_LOAD_BYTE, "", "", _ROUTE_PROTO))
    lines += [(_JUMP_EQUAL, "ours", "", PROTO_BOX), (_JUMP_EQUAL, "ours", "none", PROTO_BGP)]
    labels["hop"] = len(lines)
    lines.append((_LOAD_BYTE, "", "", _NEXTHOP_PROTO))
    lines += [(_JUMP_EQUAL, "ours", "", PROTO_BOX), (_JUMP_EQUAL, "ours", "none", PROTO_BGP)]
    labels["ours"] = len(lines)
    lines += [(_LOAD_WORD, "", "", _PORT_ID), (_JUMP_EQUAL, "none", "take", _swapped(own, 4))]
    labels["none"] = len(lines)
    lines.append((_RETURN, "", "", 0))
    labels["take"] = len(lines)
    lines.append((_RETURN, "", "", 0xFFFF_FFFF))
    return b"".join(
        _INSTRUCTION.pack(
            code,
            labels[yes] - at - 1 if yes else 0,
            labels[no] - at - 1 if no else 0,
            value,
        )
        for at, (code, yes, no, value) in enumerate(lines)
    )


def attach_filter(link: socket.socket, program: bytes) -> None:
    """Have the kernel filter what a socket gets."""
    held = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("@HP", len(program) // _INSTRUCTION.size, ctypes.addressof(held))
    link.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)


class Carriers:
    """Which devices carry packets, as far as they were heard of."""

    def __init__(self) -> None:
        """Know of none."""
        self._known: dict[tuple[Namespace, int], bool] = {}

    def changed(self, ns: Namespace, kind: int, payload: memoryview) -> bool:
        """Take one message; return whether routes may have gone, or may be possible now."""
        _, _, index, flags, change = _IFINFO.unpack_from(payload)
        carries = kind == RTM_NEWLINK and flags & (IFF_UP | IFF_LOWER_UP) == IFF_UP | IFF_LOWER_UP
        before = self._known.get((ns, index), False if change == _NEW else None)
        if kind == RTM_DELLINK:
            self._known.pop((ns, index), None)
        else:
            self._known[ns, index] = carries
        return before is not carries


class FilteredWatcher(Watcher):
    """A watcher whose sockets are filtered: what passes, other than a device, is a reason to read `what`."""

    def __init__(
        self, namespaces: Namespaces, what: str, groups: tuple[int, ...], program: Callable[[int], bytes]
    ) -> None:
        """Listen for devices and `groups`; `program` assembles the filter for the port id of our request socket."""
        super().__init__(namespaces, NETLINK_ROUTE, (LINK, *groups), self._reason)
        self._what, self._program = what, program
        self._carriers = Carriers()

    def _open(self, ns: Namespace) -> None:
        """Listen in a namespace, deaf to ourselves."""
        super()._open(ns)
        if ns in self._sockets:
            own = self._namespaces.netlink_socket(NETLINK_ROUTE, ns).getsockname()[0]
            attach_filter(self._sockets[ns], self._program(own))

    def _reason(self, ns: Namespace, datagram: bytes) -> str | None:
        """Say why to read again, if there is a reason."""
        reason = None
        for kind, _, _, payload in messages(datagram):
            if kind not in (RTM_NEWLINK, RTM_DELLINK):
                reason = reason or f"{self._what} {ns}".rstrip()
            elif self._carriers.changed(ns, kind, payload):
                reason = f"{CARRIER} {ns}".rstrip()
        return reason


def watch_routes(namespaces: Namespaces) -> AsyncIterator[str]:
    """Yield "listening" once nothing can be missed any more, then reasons for ever."""
    return FilteredWatcher(namespaces, "route", (IPV4_ROUTE, IPV6_ROUTE, NEXTHOP), filter_program).run()
