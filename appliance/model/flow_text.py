"""Flows as people write them, read: the inverse of `appliance.model.describe.flow`. Pure.

A person sees a flow from either end, before or behind a translation: `either_way` gives every tuple by which conntrack
may know what was written.
"""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import ip_address
from typing import Final

from appliance.model.errors import OperatorError
from appliance.model.facts import Address, FlowKey

FORM: Final = "'tcp 10.0.0.1:40000 > 10.0.0.2:80', 'udp [fd00::1]:5 > [fd00::2]:53' or 'icmp 10.0.0.1:ID > 10.0.0.2'"
_HINT: Final = f"write {FORM}, in quotes: `>` alone belongs to the shell"
_NUMBERS: Final = {"tcp": 6, "udp": 17, "icmp": 1, "ipv6-icmp": 58, "sctp": 132}
_WITH_PORTS: Final = frozenset({6, 17, 132})
#: ICMP by IP version; the types of an echo, and of what answers each type that has an answer: no other makes a flow.
_ICMP: Final = {4: 1, 6: 58}
_ECHO: Final = {1: 8, 58: 128}
_ANSWER: Final = {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17, 128: 129, 129: 128, 139: 140, 140: 139}
_END: Final = re.compile(r"^(?:\[(?P<v6>[^\]]*)\]|(?P<bare>[^\[\]]*?))(?::(?P<port>[0-9]{1,5}))?$")


def parse_flow(text: str, zone: int = 0) -> FlowKey:
    """Read a flow; OperatorError says what is wrong and how one is written."""
    words = text.split()
    if len(words) != 4 or words[2] != ">":  # noqa: PLR2004 - protocol, source, `>`, destination
        raise _wrong(text, "it is not PROTOCOL SOURCE > DESTINATION")
    (source, sport), (destination, dport) = (_end(text, words[1]), _end(text, words[3]))
    if source.version != destination.version:
        raise _wrong(text, "one address is IPv4, the other IPv6")
    protocol = _protocol(text, words[0], source.version)
    if protocol in _ECHO:
        dport = _ECHO[protocol] << 8 if dport is None else dport
        if sport is None:
            raise _wrong(text, "the identifier is missing behind the source")
        if dport >> 8 not in _ANSWER:
            raise _wrong(text, f"messages of ICMP type {dport >> 8} belong to the flow that they are about")
    elif protocol in _WITH_PORTS and None in {sport, dport}:
        raise _wrong(text, f"{words[0]} needs a port at both ends")
    return FlowKey(source, sport or 0, destination, dport or 0, protocol, zone)


def _protocol(text: str, word: str, version: int) -> int:
    number = _NUMBERS.get(word.lower(), int(word) if word.isascii() and word.isdigit() else None)
    if number is None or number > 255:  # noqa: PLR2004 - one octet
        raise _wrong(text, f"{word} is no protocol: {', '.join(_NUMBERS)} or a number")
    return _ICMP[version] if number in _ECHO else number


def _end(text: str, word: str) -> tuple[Address, int | None]:
    """Read an address, and what stands behind it if anything does."""
    try:
        return ip_address(word), None
    except ValueError:
        found = _END.match(word)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or (port or 0) > 65535:  # noqa: PLR2004 - 16 bits
        raise _wrong(text, f"{word} is no ADDRESS:PORT")
    try:
        address = ip_address(found["v6"] or found["bare"] or "")
    except ValueError as error:
        raise _wrong(text, f"{word} holds no IP address") from error
    if (address.version == 6) != bool(found["v6"]):  # noqa: PLR2004 - the IP version
        raise _wrong(text, f"an IPv6 address with a port stands in brackets, an IPv4 one does not: {word}")
    return address, port


def _wrong(text: str, why: str) -> OperatorError:
    return OperatorError.of(f"`{text}` is no flow: {why}", _HINT)


def turned(key: FlowKey) -> FlowKey:
    """Return the tuple that answers have when nothing is translated."""
    if key.protocol in _ECHO:
        return replace(_other_type(key), source=key.destination, destination=key.source)
    return FlowKey(key.destination, key.destination_port, key.source, key.source_port, key.protocol, key.zone)


def either_way(key: FlowKey) -> tuple[FlowKey, ...]:
    """Return the tuples of one flow, seen from either end; the written one first.

    Who writes an echo does not know which end asked: with and without its answer's type.
    """
    ways: tuple[FlowKey, ...] = (key, turned(key))
    if key.protocol in _ECHO:
        ways += (_other_type(key), turned(_other_type(key)))
    return tuple(dict.fromkeys(ways))


def _other_type(key: FlowKey) -> FlowKey:
    kind, code = key.destination_port >> 8, key.destination_port & 0xFF
    return replace(key, destination_port=_ANSWER.get(kind, kind) << 8 | code)
