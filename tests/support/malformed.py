"""Every kind of malformed message, as octets, and what it must cost whoever sends it: RFC 7606, RFC 4271 6, RFC 5492 5.

Data for `tests/engines/test_native_hostile.py`; the sender is AS 65003.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from routing.bgp.messages import KEEPALIVE_MESSAGE, MARKER, UPDATE, Open, encode_open, message
from routing.bgp.nlri import pack
from routing.bgp.values import Family, Network

HOSTILE = 65003
_V4, _V6 = Family.IPV4, Family.IPV6


@dataclass(frozen=True)
class Case:
    """One error: which attributes of a good UPDATE stand otherwise, and what stands behind them.

    `costs`: "route" is treated as withdrawn, "nothing" but the attribute itself, or the session, by a NOTIFICATION.
    """

    what: str
    costs: str | tuple[int, int]
    families: tuple[Family, ...] = (_V4, _V6)
    more: str = ""
    origin: str = "40010100"
    path: str = "400206020100" + "00fdeb"
    hop: str = ""
    nlri: str | None = None


def _reach(family: str = "000201", hop: str = "10" + "20010db8" + "00" * 10 + "0099", flags: str = "80") -> str:
    """Write an MP_REACH_NLRI whose NLRI are still to be put in."""
    return f"{flags}0eLL{family}{hop}00NN"


MALFORMED = [
    Case("an ORIGIN of two octets", "route", origin="4001020000"),
    Case("an ORIGIN that nobody knows", "route", origin="40010103"),
    Case("an ORIGIN that says it is optional", "route", origin="c0010100"),
    Case("no ORIGIN", "route", origin=""),
    Case("an AS_PATH of an unknown kind of segment", "route", path="4002060501" + "0000fdeb"),
    Case("an AS_PATH of a segment without AS", "route", path="4002020200"),
    Case("an AS_PATH that is cut off", "route", path="4002050201" + "0000fd"),
    Case("an AS_PATH with an octet too many", "route", path="4002070201" + "0000fdeb" + "02"),
    Case("an AS_PATH of confederations", "route", path="4002060301" + "0000fdeb"),
    Case("an AS_PATH with AS 0", "route", path="40020a0202" + "0000fdeb" + "00000000"),
    Case("an AS_PATH that says it is not transitive", "route", path="0002060201" + "0000fdeb"),
    Case("no AS_PATH", "route", path=""),
    Case("a NEXT_HOP of three octets", "route", (_V4,), hop="400303c00002"),
    Case("the NEXT_HOP 0.0.0.0", "route", (_V4,), hop="40030400000000"),
    Case("the NEXT_HOP 127.0.0.1", "route", (_V4,), hop="4003047f000001"),
    Case("a NEXT_HOP of multicast", "route", (_V4,), hop="400304e0000001"),
    Case("a NEXT_HOP that says it is optional", "route", (_V4,), hop="c00304c0000263"),
    Case("no NEXT_HOP", "route", (_V4,), hop="-"),
    Case("a next hop of ::", "route", (_V6,), hop=_reach(hop="10" + "00" * 16)),
    Case("a next hop of multicast", "route", (_V6,), hop=_reach(hop="10ff02" + "00" * 13 + "01")),
    Case("a MULTI_EXIT_DISC of three octets", "route", more="800403000000"),
    Case("a MULTI_EXIT_DISC that says it is well-known", "route", more="40040400000000"),
    Case("COMMUNITIES of five octets", "route", more="c008050000000000"),
    Case("COMMUNITIES of none", "route", more="c00800"),
    Case("EXTENDED_COMMUNITIES of seven octets", "route", more="c01007" + "00" * 7),
    Case("LARGE_COMMUNITIES of eleven octets", "route", more="c0200b" + "00" * 11),
    Case("an attribute behind whose length the UPDATE ends", "route", more="c0080c00010001"),
    Case("an attribute without length", "route", more="c008"),
    Case("half an attribute header", "route", more="c0"),
    Case("LOCAL_PREF of a stranger, of three octets", "nothing", more="400503000000"),
    Case("ATOMIC_AGGREGATE of an octet", "nothing", more="40060100"),
    Case("an AGGREGATOR of six octets", "nothing", more="c00706fdebc0000201"),
    Case("an AGGREGATOR of AS 0", "nothing", more="c00708" + "00" * 4 + "c0000201"),
    Case("ORIGINATOR_ID of a stranger", "nothing", more="8009040a000001"),
    Case("CLUSTER_LIST of a stranger, of three octets", "nothing", more="800a030a0000"),
    Case("AS4_PATH of one who knows four octets", "nothing", more="c011060201" + "0000fde9"),
    Case("an attribute that is not to be passed on", "nothing", more="80630411223344"),
    Case("a second ORIGIN", "nothing", more="40010102"),
    Case("a second AS_PATH that is malformed", "nothing", more="40020105"),
    Case("a well-known attribute that nobody knows", (3, 2), more="406300"),
    Case("two MP_REACH_NLRI", (3, 1), (_V6,), more=_reach()),
    Case("a next hop of five octets", (3, 9), (_V6,), hop=_reach(hop="05" + "20010db800")),
    Case("an MP_REACH_NLRI that says it is transitive", (3, 9), (_V6,), hop=_reach(flags="c0")),
    Case("an MP_REACH_NLRI of four octets", (3, 9), (_V6,), hop="800e0400020110"),
    Case("an MP_UNREACH_NLRI of two octets", (3, 9), more="800f020002"),
    Case("an MP_UNREACH_NLRI of a prefix of 129 bits", (3, 9), more="800f15000201" + "81" + "20" * 17),
    Case("a prefix of 33 bits", (3, 10), (_V4,), nlri="210a00000000"),
    Case("a prefix that is cut off", (3, 10), (_V4,), nlri="180a00"),
    Case("a prefix of 129 bits", (3, 9), (_V6,), nlri="81" + "20" * 17),
    Case("a prefix that is cut off in its attribute", (3, 9), (_V6,), nlri="302001"),
]


def written(case: Case, family: Family, prefix: Network) -> bytes:
    """Write the UPDATE of a case about a prefix, with MULTI_EXIT_DISC 77 if that is not what is wrong."""
    nlri = pack([prefix]) if case.nlri is None else bytes.fromhex(case.nlri)
    hop = case.hop or ("400304c0000263" if family is _V4 else _reach())
    med = "" if "8004" in case.more or "4004" in case.more else "8004040000004d"
    parts = case.origin, case.path, hop.replace("-", ""), med, case.more
    attributes = b"".join(_filled(part, nlri) for part in parts)
    plain = nlri if family is _V4 else b""
    return message(UPDATE, bytes(2) + len(attributes).to_bytes(2, "big") + attributes + plain)


def _filled(text: str, nlri: bytes) -> bytes:
    octets = bytes.fromhex(text.replace("LL", "00").replace("NN", nlri.hex()))
    return octets if "LL" not in text else octets[:2] + bytes((len(octets) - 3,)) + octets[3:]


HEADERS = [
    ("a marker of zeros", (1, 1), bytes(16) + bytes.fromhex("001304")),
    ("a length of 18", (1, 2), MARKER + bytes.fromhex("001204")),
    ("a length of 4097", (1, 2), MARKER + bytes.fromhex("100102")),
    ("a length of 65535", (1, 2), MARKER + bytes.fromhex("ffff02")),
    ("the type 0", (1, 3), MARKER + bytes.fromhex("001300")),
    ("the type 6", (1, 3), MARKER + bytes.fromhex("001306")),
    ("a KEEPALIVE that says something", (1, 2), MARKER + bytes.fromhex("00140400")),
    ("an UPDATE of 22 octets", (1, 2), MARKER + bytes.fromhex("001602000000")),
    ("a NOTIFICATION without subcode", (1, 2), MARKER + bytes.fromhex("00140306")),
    ("a ROUTE-REFRESH of five octets", (7, 1), MARKER + bytes.fromhex("0018050001000100")),
    ("more withdrawn routes than the message has", (3, 1), message(UPDATE, bytes.fromhex("00090000"))),
    ("more attributes than the message has", (3, 1), message(UPDATE, bytes.fromhex("00000009"))),
    ("a withdrawn prefix of 33 bits", (3, 10), message(UPDATE, bytes.fromhex("0006210a000000000000"))),
    ("another OPEN", (5, 3), encode_open(Open(HOSTILE, 0, IPv4Address(9)))),
]


def opening(**fields: str) -> bytes:
    """Write an OPEN as octets, in hexadecimal; a good one but for the fields given."""
    good = {
        "version": "04",
        "asn": "fdeb",
        "hold": "0000",
        "identifier": "0a0000c8",
        "parameters": "0802060104" + "00010001",
    }
    given = good | fields
    length = given.pop("length", f"{len(given['parameters']) // 2:02x}")
    text = "".join((given["version"], given["asn"], given["hold"], given["identifier"], length, given["parameters"]))
    return message(1, bytes.fromhex(text))


OPENS = [
    ("version 3", (2, 1), opening(version="03", parameters="")),
    ("another AS", (2, 2), opening(asn="fdec", parameters="02060104" + "00010001")),
    ("another AS of four octets", (2, 2), opening(asn="5ba0", parameters="02064104" + "fffffff0")),
    ("the identifier 0.0.0.0", (2, 3), opening(identifier="00000000", parameters="")),
    ("a hold time of one second", (2, 6), opening(hold="0001", parameters="")),
    ("a parameter that is no capability", (2, 4), opening(parameters="0100")),
    ("a capability that is cut off", (2, 0), opening(parameters="0203010400")),
    ("parameters that are cut off", (2, 0), opening(parameters="0206", length="02")),
    ("more parameters than it says", (2, 0), opening(parameters="02060104" + "00010001", length="03")),
    ("no family of ours", (2, 7), opening(parameters="02060104" + "00190041")),
    ("28 octets", (1, 2), MARKER + bytes.fromhex("001c01") + bytes(9)),
    ("a KEEPALIVE in its place", (5, 1), KEEPALIVE_MESSAGE),
    ("an UPDATE in its place", (5, 1), message(UPDATE, bytes(4))),
    ("garbage in its place", (1, 1), b"GET / HTTP/1.1\r\nHost: example.net\r\n\r\n"),
    ("a long garbage in its place", (1, 1), bytes(range(256)) * 300),
]
