"""UPDATEs and OPENs as members say them, good ones and every kind of bad: octets under our full control.

`routing.bgp` writes only what is right; here every field can be wrong. Called by the cases. RFC 4271 4, RFC 4760, RFC 5492. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

from routing.bgp.attributes import FLAGS, Attribute, Code, join
from routing.bgp.capabilities import AS_TRANS, Restart
from routing.bgp.messages import OPEN, UPDATE, message
from routing.bgp.nlri import pack
from routing.bgp.values import Address, Family, Network
from routing.interop.world import Member

MULTIPROTOCOL, REFRESH, EXTENDED_MESSAGE, ROLE, RESTART, FOUR_OCTET = 1, 2, 6, 9, 64, 65
_CAPABILITIES, _EXTENDED = 2, 255
_TWO_OCTETS: Final = 0xFFFF
_SEQUENCE: Final = 2


def attribute(code: int, value: bytes | str, flags: int | None = None) -> Attribute:
    """Make an attribute, with the flags that its RFC gives it if no others are said; a text is hexadecimal."""
    octets = bytes.fromhex(value) if isinstance(value, str) else value
    return Attribute(FLAGS[code] if flags is None else flags, code, octets)


def as_path(*asns: int, width: int = 4) -> Attribute:
    """Make an AS_PATH of sequences, none too long."""
    pieces = [asns[start : start + 255] for start in range(0, len(asns), 255)]
    form = "!BB{}L" if width == 4 else "!BB{}H"  # noqa: PLR2004 - RFC 6793
    return attribute(Code.AS_PATH, b"".join(struct.pack(form.format(len(p)), _SEQUENCE, len(p), *p) for p in pieces))


@dataclass(frozen=True, slots=True)
class Update:
    """An UPDATE about prefixes of one family, as a member says it.

    It is a good one, ORIGIN IGP, AS_PATH of the member and those `beyond`, its own address as next hop, but for `change`: an
    attribute in the place of the one of its code, None for none. `more` stands at the end, `tail` behind that, as octets
    that need be no attribute. `withdrawn` is said in the same message.
    """

    prefixes: tuple[Network, ...] = ()
    change: Mapping[int, Attribute | None] = field(default_factory=dict)
    more: tuple[Attribute, ...] = ()
    beyond: tuple[int, ...] = ()
    hop: Address | None = None
    link_local: bytes = b""
    withdrawn: tuple[Network, ...] = ()
    nlri: bytes | None = None
    tail: bytes = b""
    family: Family = Family.IPV4

    def attributes(self, me: Member, *, width: int = 4) -> dict[int, Attribute]:
        """Return the attributes by code, as a reader must take them: the first of each, MP_REACH_NLRI without NLRI."""
        return {extra.code: extra for extra in self.more} | self._stated(me, width)

    def octets(self, me: Member, *, width: int = 4) -> bytes:
        """Write the message."""
        nlri = pack(list(self.prefixes)) if self.nlri is None else self.nlri
        stated = self._stated(me, width) if nlri else {}
        gone = pack(list(self.withdrawn))
        if self.family is Family.IPV4:
            listed = join([*stated.values(), *self.more]) + self.tail
            return _message(gone, listed, nlri)
        first = [attribute(Code.MP_UNREACH_NLRI, _name(self.family) + gone)] if gone else []
        reach = stated.pop(Code.MP_REACH_NLRI, None)
        if reach is not None:
            first.append(reach._replace(value=reach.value + nlri))
        return _message(b"", join([*first, *stated.values(), *self.more]) + self.tail, b"")

    def _stated(self, me: Member, width: int) -> dict[int, Attribute]:
        hop = me.address if self.hop is None else self.hop
        own = (me.asn, *self.beyond)
        path = as_path(*(own if width == 4 else map(_old, own)), width=width)  # noqa: PLR2004 - RFC 6793
        made: dict[int, Attribute | None] = {Code.ORIGIN: attribute(Code.ORIGIN, "00"), Code.AS_PATH: path}
        if self.family is Family.IPV4:
            made[Code.NEXT_HOP] = attribute(Code.NEXT_HOP, hop.packed)
        else:
            made[Code.MP_REACH_NLRI] = attribute(Code.MP_REACH_NLRI, _reach(self.family, hop.packed + self.link_local))
        return {int(code): said for code, said in (made | dict(self.change)).items() if said is not None}


def _message(withdrawn: bytes, attributes: bytes, nlri: bytes) -> bytes:
    lengths = struct.pack("!H", len(withdrawn)), struct.pack("!H", len(attributes))
    return message(UPDATE, lengths[0] + withdrawn + lengths[1] + attributes + nlri)


def _name(family: Family) -> bytes:
    return struct.pack("!HB", *family.value)


def _old(asn: int) -> int:
    return asn if asn <= _TWO_OCTETS else AS_TRANS


def _reach(family: Family, hop: bytes) -> bytes:
    return _name(family) + bytes((len(hop),)) + hop + b"\0"


@dataclass(frozen=True, slots=True)
class Opening:
    """What a member's OPEN says; `capabilities` are further ones. `form`: how they stand there.

    "one": in one optional parameter; "each": each in one of its own; "long": as RFC 9072 has it; "none": nothing is offered.
    """

    hold_time: int = 90
    version: int = 4
    asn: int | None = None
    identifier: IPv4Address | None = None
    four_octet: bool = True
    extended_message: bool = False
    restart: Restart | None = None
    capabilities: tuple[tuple[int, bytes], ...] = ()
    form: str = "one"
    parameters: bytes | None = None
    #: After it is established it says KEEPALIVE when it should.
    lively: bool = True

    def octets(self, me: Member, *, width: int = 4) -> bytes:  # noqa: ARG002 - as an Update has it
        """Write the message."""
        asn = me.asn if self.asn is None else self.asn
        identifier = me.identifier if self.identifier is None else self.identifier
        fixed = struct.pack("!BHH4s", self.version, _old(asn), self.hold_time, identifier.packed)
        return message(OPEN, fixed + (self._parameters(me, asn) if self.parameters is None else self.parameters))

    def _parameters(self, me: Member, asn: int) -> bytes:
        offered = [struct.pack("!BB", code, len(value)) + value for code, value in self._offered(me, asn)]
        if self.form == "none":
            return b"\0"
        if self.form == "long":
            octets = b"".join(offered)
            return struct.pack("!BBHBH", _EXTENDED, _EXTENDED, 3 + len(octets), _CAPABILITIES, len(octets)) + octets
        groups = [b"".join(offered)] if self.form == "one" else offered
        parameters = b"".join(struct.pack("!BB", _CAPABILITIES, len(group)) + group for group in groups)
        return bytes((len(parameters),)) + parameters

    def _offered(self, me: Member, asn: int) -> list[tuple[int, bytes]]:
        afi, safi = me.family.value
        found = [(MULTIPROTOCOL, struct.pack("!HBB", afi, 0, safi)), (REFRESH, b"")]
        if self.extended_message:
            found.append((EXTENDED_MESSAGE, b""))
        if self.restart is not None:
            head = self.restart.restarting << 15 | self.restart.time
            kept = [struct.pack("!HBB", *family.value, 0x80 * held) for family, held in self.restart.families]
            found.append((RESTART, struct.pack("!H", head) + b"".join(kept)))
        if self.four_octet:
            found.append((FOUR_OCTET, struct.pack("!L", asn)))
        return [*found, *self.capabilities]
