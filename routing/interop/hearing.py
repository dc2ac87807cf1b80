"""What the device under test says to one member: its UPDATEs as octets of attributes for each prefix, nothing interpreted away.

Called by `speaker`. Flags, lengths and order stay visible, for they are what is judged; what is no UPDATE at all is a fault of the
device. RFC 4271 4.3, RFC 4760 3 and 4, RFC 4724 2. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from routing.bgp.attributes import Attribute, Code, known, split
from routing.bgp.hot import normal
from routing.bgp.nlri import WIDTHS, each, pack
from routing.bgp.values import Family, Network

_FAMILIES = {family.value: family for family in Family}
_REACH_HEAD, _UNREACH_HEAD, _IPV4_SIZE = 5, 3, 4

#: Attributes by code. MP_REACH_NLRI stands there without its NLRI.
Route = Mapping[int, Attribute]


class Unreadable(ValueError):  # noqa: N818 - what was heard is, not what we do
    """What was heard is no BGP."""


@dataclass
class Hearing:
    """The routes that a member has heard of, and everything it ever heard of."""

    routes: dict[tuple[Family, bytes], Route] = field(default_factory=dict)
    ever: set[tuple[Family, bytes]] = field(default_factory=set)
    #: How often each prefix was announced.
    announced: dict[tuple[Family, bytes], int] = field(default_factory=dict)
    ends_of_rib: set[Family] = field(default_factory=set)
    updates: int = 0

    def update(self, withdrawn: bytes, attributes: bytes, nlri: bytes) -> None:
        """Take in an UPDATE."""
        self.updates += 1
        found, rest = split(attributes)
        if rest:
            raise Unreadable(f"an UPDATE whose attributes end within one: {attributes.hex()}")
        route = {attribute.code: attribute for attribute in found}
        if len(route) != len(found):
            raise Unreadable(f"an UPDATE with an attribute twice: {attributes.hex()}")
        reach, unreach = route.pop(Code.MP_REACH_NLRI, None), route.pop(Code.MP_UNREACH_NLRI, None)
        if not (withdrawn or attributes or nlri):
            self.ends_of_rib.add(Family.IPV4)
        self._gone(Family.IPV4, withdrawn)
        if unreach is not None:
            self._unreached(unreach.value, alone=len(found) == 1 and not nlri)
        if nlri:
            self._come(Family.IPV4, nlri, route)
        if reach is not None:
            family, head = _family(reach.value), _head(reach.value)
            self._come(family, reach.value[len(head) :], route | _next_hop(family, reach._replace(value=head)))

    def _unreached(self, value: bytes, *, alone: bool) -> None:
        family = _family(value)
        if alone and len(value) == _UNREACH_HEAD:
            self.ends_of_rib.add(family)
        self._gone(family, value[_UNREACH_HEAD:])

    def _gone(self, family: Family, nlri: bytes) -> None:
        for prefix in _each(family, nlri):
            self.routes.pop((family, prefix), None)

    def _come(self, family: Family, nlri: bytes, route: Route) -> None:
        for prefix in _each(family, nlri):
            key = family, prefix
            self.routes[key] = route
            self.ever.add(key)
            self.announced[key] = self.announced.get(key, 0) + 1

    def forget(self) -> None:
        """Forget everything, as if it had not been said."""
        self.routes.clear()
        self.ever.clear()
        self.announced.clear()
        self.ends_of_rib.clear()


def _next_hop(family: Family, reach: Attribute) -> dict[int, Attribute]:
    # RFC 4760 does not say that IPv4 must stand in the old fields: with an IPv4 next hop it means the same.
    if family is Family.IPV4 and reach.value[3] == _IPV4_SIZE:
        return {Code.NEXT_HOP: known(Code.NEXT_HOP, reach.value[4:8])}
    return {Code.MP_REACH_NLRI: reach}


def key(prefix: Network) -> tuple[Family, bytes]:
    """Return how a prefix is called in a hearing."""
    return Family.of(prefix), pack([prefix])


def _each(family: Family, nlri: bytes) -> Iterator[bytes]:
    try:
        return iter(each(normal(nlri, WIDTHS[family])))
    except ValueError as error:
        raise Unreadable(f"an UPDATE with NLRI that are none: {nlri.hex()}") from error


def _family(value: bytes) -> Family:
    try:
        return _FAMILIES[struct.unpack_from("!HB", value)]
    except (KeyError, struct.error):
        raise Unreadable(f"an UPDATE of a family that was not agreed on: {value.hex()}") from None


def _head(value: bytes) -> bytes:
    end = _REACH_HEAD + value[3] if len(value) >= _REACH_HEAD else _REACH_HEAD
    if end > len(value):
        raise Unreadable(f"an MP_REACH_NLRI that is cut off: {value.hex()}")
    return value[:end]
