"""The next-hop objects of one namespace: which id stands for which hops.

Two layers, so that moving routes and sharing hops never get in each other's way::

    route --id--> group (one for each distinct tuple of hops, also of one) --ids--> hop (one for each distinct Hop)

`replace` moves any number of routes by one message, and no other group sees it, as it would if routes named hop objects
directly. A hop that only this group has is turned into the new one; else the group is given other members. Either way
IPv4 takes no time. For IPv6 the kernel looks at each route behind the group, and the first way takes it a third of the
second: it then need not tell the route as well.

What an id means is in the kernel, not in the id. So after `replace(a, b)` the group that meant `a` means `b`, and there
may be two groups, or hops, of one meaning: the routes of each stay where they are, new ones take either, and each goes
when its last route has gone. Objects are ours by protocol number and by the range of ids in `appliance.model.marks`; a restarted
process finds them by a dump. Used by `routetable` alone.

The kernel deletes hop objects silently when their device goes down or loses its carrier: groups shrink, and the last
hop takes its groups and their routes with it. Nothing brings them back but a new `read`, diff and apply.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Final

from appliance.kernel.exchanges import Netlink
from appliance.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Answer, Message
from appliance.kernel.rtnetlink import (
    RTM_DELNEXTHOP,
    RTM_GETNEXTHOP,
    RTM_NEWNEXTHOP,
    GroupObject,
    HopObject,
    dump_nexthops,
    hop_version,
    pack_group,
    pack_hop,
    pack_nexthop_id,
    unpack_nexthop,
)
from appliance.model.errors import KernelError
from appliance.model.facts import Hop
from appliance.model.marks import BGP_NH, BOX_NH, NH_END, PROTO_BGP, PROTO_BOX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.model.facts import Namespace

Hops = tuple[Hop, ...]
_RANGES: Final[Mapping[int, tuple[int, int]]] = {PROTO_BOX: (BOX_NH, BGP_NH), PROTO_BGP: (BGP_NH, NH_END)}
_Made = tuple[int, int, Hop]


def refused(what: str, code: int, message: str = "") -> KernelError:
    """Make the error of a hop: its device may come, come up or get an address, so trying again can help."""
    error = KernelError("route", f"{what}: {message}" if message else what, code)
    error.retry = True
    return error


class NextHops:
    """Hop and group objects of a namespace; nothing is known before `read`."""

    def __init__(self, netlink: Netlink, ns: Namespace) -> None:
        """Speak rtnetlink in `ns`."""
        self._netlink, self._ns = netlink, ns
        self._hops: dict[int, _Made] = {}
        self._groups: dict[int, GroupObject] = {}
        self._hop_ids: dict[_Made, int] = {}
        self._group_ids: dict[tuple[int, tuple[int, ...]], int] = {}
        self._cursor = {proto: first for proto, (first, _) in _RANGES.items()}
        self._foreign: set[int] = set()

    def read(self) -> None:
        """Learn every object of ours from the kernel."""
        self._hops, self._groups, self._foreign = {}, {}, set()
        names: dict[int, str] = {}
        with self._netlink.namespaces.in_namespace(self._ns):
            names.update(socket.if_nameindex())
        for payload in self._netlink.dump(self._ns, Message(RTM_GETNEXTHOP, dump_nexthops())):
            found = unpack_nexthop(payload)
            if found is not None:
                self._remember(found, names)
        self._hop_ids = {made: number for number, made in self._hops.items()}
        self._group_ids = {(group.proto, group.members): number for number, group in self._groups.items()}

    def meanings(self) -> dict[int, Hops]:
        """Return the hops behind each group of ours."""
        return {number: self._meaning(group) for number, group in self._groups.items()}

    def meaning(self, number: int) -> Hops:
        """Return the hops behind a group; none if there is no such group."""
        group = self._groups.get(number)
        return () if group is None else self._meaning(group)

    def having(self, proto: int, hops: Hops) -> list[int]:
        """Return the groups of a protocol that stand for these hops: usually one, several after `replace`."""
        return [
            number for number, group in self._groups.items() if group.proto == proto and self._meaning(group) == hops
        ]

    def ensure(self, proto: int, version: int, hops: Hops) -> tuple[int, KernelError | None]:
        """Return the id of a group for these hops, made if need be.

        With an error, the group has those of the hops that could be made, and id 0 means none could.
        """
        members, error = self._members(proto, version, hops)
        if not members:
            return 0, error or KernelError("route", f"{self._ns} route without hops".strip(), errno.EINVAL)
        known = self._group_ids.get((proto, members))
        if known is not None:
            return known, error
        number, wrong = self._free(proto)
        wrong = wrong or self._put(GroupObject(number, proto, members), NLM_F_CREATE | NLM_F_EXCL, hops)
        return (0, wrong) if wrong is not None else (number, error)

    def replace(self, number: int, hops: Hops) -> KernelError | None:
        """Give a group other hops: all its routes move, or none and the error is returned."""
        old = self._groups.get(number)
        first = None if old is None else self._hops.get(old.members[0])
        if old is None or first is None:
            return refused(f"{self._ns} group {number}".strip(), errno.ENOENT)
        version = first[1]
        turning = self._turning(old, hops)
        if turning is not None:
            member, hop = turning
            return self._make(member, (old.proto, hop_version(hop, version), hop), NLM_F_REPLACE)
        members, error = self._members(old.proto, version, hops)
        if error is not None or members == old.members:
            return error
        error = self._put(GroupObject(number, old.proto, members), NLM_F_REPLACE, hops)
        if error is None and self._group_ids.get((old.proto, old.members)) == number:
            del self._group_ids[old.proto, old.members]
        return error

    def groups(self) -> set[int]:
        """Return the ids of all groups of ours."""
        return set(self._groups)

    def prune(self, idle: set[int]) -> None:
        """Delete groups that have no routes, then hops that are in no group."""
        for number in sorted(idle):
            group = self._groups.pop(number, None)
            if group is None:
                continue
            if self._group_ids.get((group.proto, group.members)) == number:
                del self._group_ids[group.proto, group.members]
            self._delete(number)
        used = {member for group in self._groups.values() for member in group.members}
        for number in [number for number in self._hops if number not in used]:
            self._forget(number)
            self._delete(number)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _remember(self, found: HopObject | GroupObject, names: Mapping[int, str]) -> None:
        """File an object away; a foreign one that stands on an id of our ranges blocks that id."""
        first, end = _RANGES.get(found.proto, (0, 0))
        if not first <= found.id < end:
            self._foreign.add(found.id)
        elif isinstance(found, GroupObject):
            self._groups[found.id] = found
        elif found.index in names:
            hop = Hop(names[found.index], found.via, found.decapsulate)
            self._hops[found.id] = (found.proto, found.version, hop)

    def _meaning(self, group: GroupObject) -> Hops:
        """Return the hops of a group."""
        return tuple(self._hops[member][2] for member in group.members if member in self._hops)

    def _turning(self, group: GroupObject, hops: Hops) -> tuple[int, Hop] | None:
        """Return the one hop of a group that is to be another, if that is all that changes and no other group has it."""
        if len(group.members) != len(hops) or not self._hops.keys() >= set(group.members):
            return None
        different = [pair for pair in zip(group.members, hops, strict=True) if self._hops[pair[0]][2] != pair[1]]
        if len(different) != 1 or sum(different[0][0] in other.members for other in self._groups.values()) != 1:
            return None
        return different[0]

    def _members(self, proto: int, version: int, hops: Hops) -> tuple[tuple[int, ...], KernelError | None]:
        """Return the ids of hop objects, made if need be, and the first error."""
        members, first = [], None
        for hop in hops:
            made = (proto, hop_version(hop, version), hop)
            number, error = self._hop_ids.get(made, 0), None
            if not number:
                number, error = self._free(proto)
                error = error or self._make(number, made, NLM_F_CREATE | NLM_F_EXCL)
            if error is None:
                members.append(number)
            first = first or error
        return tuple(members), first

    def _make(self, number: int, made: _Made, flags: int) -> KernelError | None:
        """Make a hop object, or turn one into another."""
        proto, version, hop = made
        what = f"{self._ns} hop {hop.via or 'on link'} dev {hop.link}".strip()
        try:
            with self._netlink.namespaces.in_namespace(self._ns):
                index = socket.if_nametoindex(hop.link)
        except OSError:
            return refused(what, errno.ENODEV)
        found = HopObject(number, proto, version, index, hop.via, hop.decapsulate)
        said = self._send(RTM_NEWNEXTHOP, pack_hop(found), flags)
        if said.errno:
            return refused(what, said.errno, said.message)
        self._forget(number)
        self._hops[number] = made
        self._hop_ids.setdefault(made, number)
        return None

    def _forget(self, number: int) -> None:
        """Forget what a hop object means, if it is known."""
        made = self._hops.pop(number, None)
        if made is not None and self._hop_ids.get(made) == number:
            del self._hop_ids[made]

    def _put(self, group: GroupObject, flags: int, hops: Hops) -> KernelError | None:
        """Make or replace a group."""
        said = self._send(RTM_NEWNEXTHOP, pack_group(group), flags)
        if said.errno:
            words = " ".join(f"{hop.via or 'on link'} dev {hop.link}" for hop in hops)
            return refused(f"{self._ns} hops {words}".strip(), said.errno, said.message)
        self._groups[group.id] = group
        self._group_ids.setdefault((group.proto, group.members), group.id)
        return None

    def _delete(self, number: int) -> None:
        """Delete an object; one that is gone already is fine."""
        self._send(RTM_DELNEXTHOP, pack_nexthop_id(number), 0)

    def _send(self, kind: int, payload: bytes, flags: int) -> Answer:
        """Have one message answered."""
        return self._netlink.batch(self._ns, [Message(kind, payload, flags)])[0]

    def _free(self, proto: int) -> tuple[int, KernelError | None]:
        """Return an id that nobody uses, going round so that one that has just been freed is not taken again at once."""
        first, end = _RANGES[proto]
        for _ in range(end - first):
            number = self._cursor[proto]
            self._cursor[proto] = number + 1 if number + 1 < end else first
            if number not in self._hops and number not in self._groups and number not in self._foreign:
                return number, None
        return 0, KernelError("route", f"{self._ns} next-hop ids of protocol {proto} are used up", errno.ENOSPC)
