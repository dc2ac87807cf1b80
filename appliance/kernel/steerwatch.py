"""What may change our steers without us, as a stream of reasons to read them again; called by `steers`.

Devices are told always, for one that goes takes its routes and the kernel says nothing of those; a change is a reason
when it is one of whether the device carries packets. Rules are told, and routes in tables with numbers above 255 (the
header says RT_TABLE_COMPAT then), as those of steers are, when somebody else changed them; a classic BPF filter keeps all
other routes from waking us, and what we do ourselves.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import TYPE_CHECKING, Final

from appliance.kernel.devices import RTM_DELLINK, RTM_NEWLINK
from appliance.kernel.routewatch import FilteredWatcher
from appliance.kernel.rtnetlink import RTM_DELROUTE, RTM_NEWROUTE
from appliance.kernel.steerwire import RTM_DELRULE, RTM_NEWRULE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from appliance.kernel.namespaces import Namespaces

#: RTNLGRP_*
IPV4_ROUTE, IPV4_RULE, IPV6_ROUTE, IPV6_RULE = 7, 8, 11, 19
RT_TABLE_COMPAT: Final = 252
_INSTRUCTION: Final = struct.Struct("=HBBI")
_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE, _JUMP_EQUAL, _RETURN = 0x20, 0x28, 0x30, 0x15, 0x06
#: Where they stand in a message: type and port id in its header, the table in struct rtmsg behind it.
_TYPE, _PORT_ID, _TABLE = 4, 12, 16 + 4


def _half(value: int) -> int:
    """Return what a filter sees of 16 bits in host order: it loads everything as network order."""
    return socket.htons(value)


def filter_program(own: int) -> bytes:
    """Assemble the filter: all devices; rules, and routes of numbered tables, that another port id changed.

    Jumps count the instructions they skip.
    """
    seen = int.from_bytes(own.to_bytes(4, sys.byteorder), "big")
    lines = (
        (_LOAD_HALF, 0, 0, _TYPE),
        (_JUMP_EQUAL, 10, 0, _half(RTM_NEWLINK)),  # -> take
        (_JUMP_EQUAL, 9, 0, _half(RTM_DELLINK)),  # -> take
        (_JUMP_EQUAL, 5, 0, _half(RTM_NEWRULE)),  # -> whose
        (_JUMP_EQUAL, 4, 0, _half(RTM_DELRULE)),  # -> whose
        (_JUMP_EQUAL, 1, 0, _half(RTM_NEWROUTE)),  # -> which table
        (_JUMP_EQUAL, 0, 4, _half(RTM_DELROUTE)),  # -> which table, else leave
        (_LOAD_BYTE, 0, 0, _TABLE),  # which table
        (_JUMP_EQUAL, 0, 2, RT_TABLE_COMPAT),  # else leave
        (_LOAD_WORD, 0, 0, _PORT_ID),  # whose
        (_JUMP_EQUAL, 0, 1, seen),  # ours: leave, else take
        (_RETURN, 0, 0, 0),  # leave
        (_RETURN, 0, 0, 0xFFFF_FFFF),  # take
    )
    return b"".join(_INSTRUCTION.pack(*line) for line in lines)


def watch_steers(namespaces: Namespaces) -> AsyncIterator[str]:
    """Yield "listening" once nothing can be missed any more, then reasons for ever."""
    groups = (IPV4_RULE, IPV6_RULE, IPV4_ROUTE, IPV6_ROUTE)
    return FilteredWatcher(namespaces, "steer", groups, filter_program).run()
