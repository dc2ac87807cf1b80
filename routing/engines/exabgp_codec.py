"""ExaBGP's JSON lines as values, and values as the text of its commands.

Called by `routing.engines.exabgp_core`. Pure. Communities and what ExaBGP does not know are written as octets, so that
they come out as they came in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from typing import Any

from routing.bgp.attributes import EXTENDED, TRANSITIVE, Code, decode, split
from routing.bgp.session import Established
from routing.bgp.values import Address, Attributes, Family, Neighbor, Origin, Segment, SegmentType, UnknownAttribute
from routing.bgp.vetting import is_host
from routing.engines.engine import SessionState
from routing.engines.exabgp_messages import (
    Answered,
    Down,
    EndOfTable,
    Message,
    Numbered,
    Opened,
    Refresh,
    Refused,
    Reloaded,
    State,
    Up,
    Update,
)
from routing.engines.prefix_text import packed, unpacked

Json = Mapping[str, Any]

#: Prefixes and sessions in one command: long enough to share the parsing, short enough to leave others a turn.
PREFIXES_PER_COMMAND = 500
SESSIONS_PER_COMMAND = 500

_FAMILIES = {"ipv4 unicast": Family.IPV4, "ipv6 unicast": Family.IPV6}
_SEGMENTS = {"as-sequence": SegmentType.SEQUENCE, "as-set": SegmentType.SET}
_IN_WORDS = frozenset(
    {
        Code.ORIGIN,
        Code.AS_PATH,
        Code.NEXT_HOP,
        Code.MULTI_EXIT_DISC,
        Code.LOCAL_PREF,
        Code.ATOMIC_AGGREGATE,
        Code.AGGREGATOR,
        Code.MP_REACH_NLRI,
    }
)
_UNKNOWN = re.compile(r"attribute-0x([0-9A-F]{2})-0x([0-9A-F]{2})")


def parse(line: str) -> Message | None:
    """Read one line of ExaBGP; None for what does not matter to us."""
    text = line.strip()
    if text in ("done", "error"):
        return Answered(text == "done")
    try:
        data = json.loads(text)
    except ValueError:
        return None
    kind = data.get("type") if isinstance(data, dict) else None
    if kind == "session":
        return Numbered(ip_address(data["address"]), data["number"])
    if kind == "reloaded":
        return Reloaded(data["error"])
    if kind == "refused":
        return Refused(data["command"], data["error"])
    reader = _READERS.get(kind or "")
    return None if reader is None else reader(ip_address(data["neighbor"]["address"]["peer"]), data["neighbor"])


def _state(address: Address, data: Json) -> Message | None:
    if data["state"] == "up":
        return Up(address, ip_address(data["address"]["local"]))
    return Down(address, data.get("reason", "")) if data["state"] == "down" else None


def _fsm(address: Address, data: Json) -> Message:
    return State(address, SessionState(data["state"].lower()))


def _refresh(address: Address, data: Json) -> Message | None:
    asked = data["route-refresh"]
    family = _FAMILIES.get(f"{asked['afi']} {asked['safi']}")
    return None if family is None else Refresh(address, family)


def _open(address: Address, data: Json) -> Message:
    capabilities = {int(code): value for code, value in data["open"]["capabilities"].items()}
    families = capabilities.get(1, {}).get("families", ["ipv4/unicast"])
    restart = capabilities.get(64)
    flags = restart["address-family-flags"] if restart else {}
    return Opened(
        address,
        IPv4Address(data["open"]["router_id"]),
        frozenset(_named(families)),
        "ipv4/unicast/ipv6" in capabilities.get(5, {}).get("conversion", ()),
        restart["time"] if restart else None,
        {family: bool(flags[name]) for name in flags for family in _named([name])},
    )


def _named(names: Iterable[str]) -> Iterator[Family]:
    for name in names:
        family = _FAMILIES.get(name.replace("/", " "))
        if family is not None:
            yield family


def _update(address: Address, data: Json) -> Message | None:
    message = data["message"]
    if "eor" in message:
        family = _FAMILIES.get(f"{message['eor']['afi']} {message['eor']['safi']}")
        return None if family is None else EndOfTable(address, family)
    update = message["update"]
    found = update.get("attribute", {})
    withdrawn = tuple(
        (_FAMILIES[name], packed(prefixes, _FAMILIES[name]))
        for name, prefixes in update.get("withdraw", {}).items()
        if name in _FAMILIES and prefixes
    )
    if withdrawn and "error" in found:
        return Update(address, malformed=withdrawn)
    announced = tuple(_announced(update.get("announce", {}), found))
    good = tuple(said for said in announced if _is_sound(said[1]))
    malformed = tuple((family, nlri) for family, said, nlri in announced if not _is_sound(said))
    return Update(address, good, withdrawn, malformed)


def _announced(announced: Json, found: Json) -> Iterator[tuple[Family, Attributes, bytes]]:
    for name, by_next_hop in announced.items():
        family = _FAMILIES.get(name)
        if family is None:
            continue
        hops = [(ip_address(text), prefixes) for text, prefixes in by_next_hop.items() if text != "null"]
        # RFC 2545 3: a link-local next hop comes beside the global one, and means nothing on another link.
        useful = [(hop, prefixes) for hop, prefixes in hops if not hop.is_link_local]
        for hop, prefixes in useful or hops:
            yield family, attributes(found, hop), packed(prefixes, family)


def _is_sound(found: Attributes) -> bool:
    """Tell whether there is none of the faults that ExaBGP lets through: RFC 7607 2, RFC 4271 6.3."""
    return 0 not in found.path_asns and is_host(found.next_hop.packed)


_READERS = {"state": _state, "fsm": _fsm, "open": _open, "update": _update, "refresh": _refresh}


def attributes(found: Json, next_hop: Address) -> Attributes:
    """Read an attribute set."""
    aggregator = found.get("aggregator", "").rpartition(":")
    originator = found.get("originator-id")
    unknown = [(match, value) for name, value in found.items() if (match := _UNKNOWN.fullmatch(name))]
    return Attributes(
        next_hop=next_hop,
        origin=Origin[found.get("origin", "incomplete").upper()],
        as_path=tuple(
            Segment(_SEGMENTS[segment["element"]], tuple(segment["value"]))
            for segment in found.get("as-path", {}).values()
        ),
        med=found.get("med"),
        local_pref=found.get("local-preference"),
        atomic_aggregate=found.get("atomic-aggregate", False),
        aggregator=(int(aggregator[0]), IPv4Address(aggregator[2])) if aggregator[0] else None,
        communities=tuple((a, b) for a, b in found.get("community", ())),
        large_communities=tuple((a, b, c) for a, b, c in found.get("large-community", ())),
        extended_communities=tuple(item["value"].to_bytes(8, "big") for item in found.get("extended-community", ())),
        originator_id=IPv4Address(originator) if originator else None,
        cluster_list=tuple(IPv4Address(text) for text in found.get("cluster-list", ())),
        unknown=tuple(
            UnknownAttribute(int(match[2], 16), int(match[1], 16), bytes.fromhex(value[2:])) for match, value in unknown
        ),
    )


def imported(found: Attributes, *, internal: bool) -> Attributes:
    """Drop what does not cross this kind of session: RFC 4271 5, RFC 7606 7.5, 7.9 and 7.10."""
    found = replace(found, unknown=tuple(attribute for attribute in found.unknown if attribute.flags & TRANSITIVE))
    return found if internal else replace(found, local_pref=None, originator_id=None, cluster_list=())


def established(neighbor: Neighbor, opened: Opened, local: Address, offered: Iterable[Family]) -> Established:
    """Put together what the two OPEN messages agreed on; `offered` are the families of ours."""
    families = opened.families & frozenset(offered)
    restarting = opened.restart_time is not None and neighbor.restart_time > 0
    return Established(
        router_id=opened.router_id,
        local_address=local,
        families=families & frozenset(neighbor.families),
        extended_next_hop=neighbor.extended_next_hop and opened.extended_next_hop,
        restart_time=opened.restart_time if restarting else None,
        kept=frozenset(opened.restart) & families if restarting else frozenset(),
        preserved=frozenset(family for family, kept in opened.restart.items() if kept) & families,
    )


def announce(sessions: Iterable[int], family: Family, octets: bytes, nlri: bytes) -> Iterator[str]:
    """Write the commands that announce the prefixes with these attributes, which are octets as design 0008 has them."""
    text = " ".join(_words(octets))
    for numbers, part in _chunks(sessions, unpacked(nlri, family)):
        yield f"@announce {numbers} {text} ; {part}"


def withdraw(sessions: Iterable[int], family: Family, nlri: bytes) -> Iterator[str]:
    """Write the commands that withdraw the prefixes."""
    for numbers, part in _chunks(sessions, unpacked(nlri, family)):
        yield f"@withdraw {numbers} ; {part}"


def end_of_rib(session: int, family: Family) -> str:
    """Write the command that says End-of-RIB."""
    return f"@eor {session} {4 if family is Family.IPV4 else 6}"


def _chunks(sessions: Iterable[int], prefixes: list[str]) -> Iterator[tuple[str, str]]:
    numbers = list(map(str, sessions))
    for i in range(0, len(numbers), SESSIONS_PER_COMMAND):
        for j in range(0, len(prefixes), PREFIXES_PER_COMMAND):
            yield ",".join(numbers[i : i + SESSIONS_PER_COMMAND]), " ".join(prefixes[j : j + PREFIXES_PER_COMMAND])


def _words(octets: bytes) -> Iterator[str]:
    found = decode(octets)
    yield f"next-hop {found.next_hop} origin {found.origin.name.lower()} as-path {_path(found.as_path)}"
    if found.med is not None:
        yield f"med {found.med}"
    if found.local_pref is not None:
        yield f"local-preference {found.local_pref}"
    if found.atomic_aggregate:
        yield "atomic-aggregate"
    if found.aggregator is not None:
        yield f"aggregator ( {found.aggregator[0]}:{found.aggregator[1]} )"
    for flags, code, value in split(octets)[0]:
        if code not in _IN_WORDS:
            yield f"attribute [ 0x{code:02x} 0x{flags & ~EXTENDED:02x} 0x{value.hex()} ]"


def _path(segments: tuple[Segment, ...]) -> str:
    if not segments:
        return "[ ]"
    return " ".join(
        f"( {' '.join(map(str, segment.asns))} )"
        if segment.type is SegmentType.SET
        else f"[ {' '.join(map(str, segment.asns))} ]"
        for segment in segments
    )
