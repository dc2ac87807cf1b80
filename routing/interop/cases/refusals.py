"""Messages that cannot be read and OPENs that will not do: which NOTIFICATION must come.

RFC 4271 6.1, 6.2 and 6.6, RFC 5492 5, RFC 6286 2.1, RFC 6608.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Final

from routing.bgp.messages import MARKER, message
from routing.interop.octets import Opening, Update
from routing.interop.script import Act, Alive, Case, Connect, Ended, Hears, Level, Loses, Say, W, join
from routing.interop.world import P

#: Seconds in which somebody must be told that it is not let in.
_SOON: Final = 3.0


def _ends(octets: bytes, *notifications: tuple[int, int | None], data: bytes | None = None) -> tuple[Act, ...]:
    """A session ends, and its routes go."""
    return (
        *join("a"),
        Say("a", Update((P,))),
        Hears(W, P),
        Say("a", octets),
        Ended("a", notifications, data=data),
        Loses(W, P),
    )


def _refused(opening: Opening, *notifications: tuple[int, int | None]) -> tuple[Act, ...]:
    return (Connect("a", opening), Ended("a", notifications, within=_SOON))


def _capabilities(octets: str) -> bytes:
    return bytes.fromhex(octets)


CASES: Final = (
    Case(
        "refusals/marker",
        "RFC 4271 6.1",
        "a marker that is not all ones: 1/1",
        _ends(bytes(16) + bytes.fromhex("001304"), (1, 1)),
    ),
    Case(
        "refusals/length-18",
        "RFC 4271 6.1",
        "a length below 19: 1/2",
        _ends(MARKER + bytes.fromhex("001204"), (1, 2)),
    ),
    Case(
        "refusals/length-4097",
        "RFC 4271 6.1",
        "a length above 4096, where no longer one was agreed on: 1/2",
        _ends(MARKER + bytes.fromhex("100102") + bytes(4097 - 19), (1, 2)),
    ),
    Case(
        "refusals/keepalive-length",
        "RFC 4271 6.1",
        "a KEEPALIVE of 20 octets: 1/2",
        _ends(MARKER + bytes.fromhex("00140400"), (1, 2)),
    ),
    Case(
        "refusals/type",
        "RFC 4271 6.1",
        "a message of an unknown type: 1/3, with the type",
        _ends(MARKER + bytes.fromhex("001309"), (1, 3), data=b"\x09"),
    ),
    Case(
        "refusals/second-open",
        "RFC 4271 6.6",
        "an OPEN in an established session: an error of the state machine, 5",
        (*join("a"), Alive("a"), Say("a", Opening()), Ended("a", ((5, None),))),
    ),
    Case(
        "refusals/update-first",
        "RFC 6608 3",
        "an UPDATE in the place of OPEN: 5/1",
        (Connect("a", instead=message(2, bytes(4))), Ended("a", ((5, None),), within=_SOON)),
        level=Level.SHOULD,
    ),
    Case(
        "refusals/version",
        "RFC 4271 6.2",
        "version 3: 2/1, with the version that is supported",
        (Connect("a", Opening(version=3)), Ended("a", ((2, 1),), within=_SOON, data=b"\x00\x04")),
    ),
    Case(
        "refusals/as",
        "RFC 4271 6.2",
        "another AS than expected: 2/2",
        _refused(Opening(asn=65535), (2, 2)),
    ),
    Case(
        "refusals/identifier",
        "RFC 6286 2.1",
        "the identifier 0.0.0.0: 2/3",
        _refused(Opening(identifier=IPv4Address(0)), (2, 3)),
    ),
    Case(
        "refusals/hold-time-1",
        "RFC 4271 6.2",
        "a hold time of 1 s: 2/6",
        _refused(Opening(hold_time=1), (2, 6)),
    ),
    Case(
        "refusals/hold-time-2",
        "RFC 4271 6.2",
        "a hold time of 2 s: 2/6",
        _refused(Opening(hold_time=2), (2, 6)),
    ),
    Case(
        "refusals/parameter",
        "RFC 4271 6.2",
        "an optional parameter that is not recognized: 2/4",
        _refused(Opening(parameters=_capabilities("03" + "630100")), (2, 4)),
    ),
    Case(
        "refusals/capability-cut-off",
        "RFC 4271 6.2",
        "a capability that is longer than its parameter: 2/0",
        _refused(Opening(parameters=_capabilities("05" + "0203" + "010400")), (2, 0)),
    ),
    Case(
        "refusals/no-family",
        "RFC 5492 5",
        "no address family in common: 2/7",
        _refused(Opening(parameters=_capabilities("08" + "0206" + "0104" + "00190041")), (2, 7)),
        level=Level.SHOULD,
    ),
)
