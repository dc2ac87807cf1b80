"""BPF programs on the ingress of devices: clsact and cls_bpf over rtnetlink.

Ours are the filters with one name (`Hook.name` is what `attach` was given). A filter is replaced in one step: packets
see the old program or the new one. Called by `compose`. Numbers: include/uapi/linux/{rtnetlink,pkt_sched,pkt_cls}.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.kernel.exchanges import Netlink
from appliance.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    nest,
    parse,
    text,
    to_text,
    to_u32,
    u32,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.model.facts import Namespace

RTM_NEWQDISC, RTM_GETQDISC = 36, 38
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
TCA_KIND, TCA_OPTIONS = 1, 2
TCA_BPF_FD, TCA_BPF_NAME, TCA_BPF_FLAGS, TCA_BPF_ID = 6, 7, 8, 11
TCA_BPF_FLAG_ACT_DIRECT: Final = 1
TC_H_CLSACT, TC_H_CLSACT_HANDLE, INGRESS = 0xFFFF_FFF1, 0xFFFF_0000, 0xFFFF_FFF2
#: RTNLGRP_TC
TC: Final = 4
#: Where we hang a filter: behind whatever others put first.
PRIORITY, HANDLE = 100, 1
_ALL: Final = socket.htons(0x0003)
_TCMSG: Final = struct.Struct("=BxHiIII")


@dataclass(frozen=True, slots=True)
class Hook:
    """A filter on the ingress of a device, and the program behind it."""

    index: int
    info: int
    handle: int
    name: str
    program: int


def hooks(netlink: Netlink, ns: Namespace, name: str) -> Iterator[Hook]:
    """Yield the filters of that name on the ingress of all devices."""
    for payload in netlink.dump(ns, Message(RTM_GETQDISC, _TCMSG.pack(0, 0, 0, 0, 0, 0))):
        _, _, index, _, _, _ = _TCMSG.unpack_from(payload)
        kind = parse(payload[_TCMSG.size :]).get(TCA_KIND)
        if kind is not None and to_text(kind) == "clsact":
            yield from (hook for hook in _filters(netlink, ns, index) if hook.name == name)


def _filters(netlink: Netlink, ns: Namespace, index: int) -> Iterator[Hook]:
    """Yield the BPF filters on the ingress of one device."""
    for payload in netlink.dump(ns, Message(RTM_GETTFILTER, _TCMSG.pack(0, 0, index, 0, INGRESS, 0))):
        _, _, _, handle, _, info = _TCMSG.unpack_from(payload)
        found = parse(payload[_TCMSG.size :])
        if TCA_OPTIONS not in found or to_text(found[TCA_KIND]) != "bpf":
            continue
        options = parse(found[TCA_OPTIONS])
        if handle and TCA_BPF_NAME in options and TCA_BPF_ID in options:
            yield Hook(index, info, handle, to_text(options[TCA_BPF_NAME]), to_u32(options[TCA_BPF_ID]))


def attach(netlink: Netlink, ns: Namespace, index: int, program: int, name: str, old: Hook | None) -> None:
    """Hang a program (its descriptor) on the ingress of a device, in the place of an old one if there is one."""
    clsact = Message(
        RTM_NEWQDISC,
        _TCMSG.pack(0, 0, index, TC_H_CLSACT_HANDLE, TC_H_CLSACT, 0) + text(TCA_KIND, "clsact"),
        NLM_F_CREATE | NLM_F_EXCL,
    )
    said = netlink.batch(ns, [clsact])[0]
    if said.errno not in (0, errno.EEXIST):
        raise netlink.error(f"{name} clsact", said)
    info, handle = (PRIORITY << 16 | _ALL, HANDLE) if old is None else (old.info, old.handle)
    options = nest(
        TCA_OPTIONS,
        u32(TCA_BPF_FD, program),
        text(TCA_BPF_NAME, name),
        u32(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT),
    )
    body = _TCMSG.pack(0, 0, index, handle, INGRESS, info) + text(TCA_KIND, "bpf") + options
    flags = NLM_F_CREATE | (NLM_F_EXCL if old is None else NLM_F_REPLACE)
    netlink.one(ns, Message(RTM_NEWTFILTER, body, flags), name)


def detach(netlink: Netlink, ns: Namespace, hook: Hook) -> None:
    """Take a filter off; one that is gone is fine. The clsact stays: others may have come to use it."""
    body = _TCMSG.pack(0, 0, hook.index, hook.handle, INGRESS, hook.info) + text(TCA_KIND, "bpf")
    said = netlink.batch(ns, [Message(RTM_DELTFILTER, body)])[0]
    if said.errno not in (0, errno.ENOENT, errno.ENODEV, errno.EINVAL):
        raise netlink.error(hook.name, said)
