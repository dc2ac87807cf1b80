"""Octets that are nearly right against the codecs of our own BGP engine, for as long as one likes to wait.

Each target takes a `random.Random`, makes something valid, spoils it, and asserts what the codec promises for any octets.
The unit tests run each for a moment; `tests.support.fuzzing_engine` has more targets and runs all of them for long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from random import Random
from typing import Any, TypeVar

from routing.bgp import attributes as codec
from routing.bgp.attributes import FLAGS, Attribute, Code
from routing.bgp.hot import announce, end_of_rib, lift, normal, scan, split, withdraw
from routing.bgp.messages import (
    HEADER,
    SHORT_LIMIT,
    Notify,
    Open,
    Restart,
    decode_notification,
    decode_open,
    decode_refresh,
    encode_notification,
    encode_open,
    encode_refresh,
    shutdown,
)
from routing.bgp.nlri import WIDTHS
from routing.bgp.update import Format, Update, read
from routing.bgp.values import Attributes, Family, Origin, Segment, SegmentType, UnknownAttribute
from routing.bgp.vetting import is_host

Parts = tuple[bytes, bytes, bytes]
Target = Callable[[Random], None]
T = TypeVar("T")

LONGEST = 65535
_TELLING = (0, 1, 2, 3, 4, 14, 15, 16, 32, 33, 40, 64, 65, 127, 128, 129, 192, 224, 254, 255)
_NOTABLE_ASNS = (1, 23456, 64512, 65535, 65536, 4200000000, 4294967295)


# --- what is valid ------------------------------------------------------------------------------------------


def some_open(rng: Random) -> Open:
    """Make an OPEN that we could send."""
    families = frozenset(family for family in Family if rng.random() < 0.7)
    four_octet = rng.random() < 0.8
    kept = tuple((family, rng.random() < 0.5) for family in sorted(families, key=lambda family: family.value))
    return Open(
        asn=_asn(rng) if four_octet else rng.randint(1, 65535),
        hold_time=rng.choice((0, 3, 90, 65535)),
        router_id=IPv4Address(rng.randint(1, 2**32 - 1)),
        families=families or frozenset({Family.IPV4}),
        four_octet=four_octet,
        refresh=rng.random() < 0.5,
        enhanced_refresh=rng.random() < 0.5,
        extended_message=rng.random() < 0.5,
        extended_next_hop=rng.random() < 0.5,
        restart=Restart(rng.randint(0, 4095), rng.random() < 0.5, rng.random() < 0.5, kept) if kept else None,
    )


def some_attributes(rng: Random, *, internal: bool, next_hop: IPv4Address | IPv6Address) -> Attributes:
    """Make an attribute set that a neighbour may send."""
    return Attributes(
        next_hop=next_hop,
        origin=rng.choice(list(Origin)),
        as_path=tuple(
            Segment(
                SegmentType.SET if rng.random() < 0.2 else SegmentType.SEQUENCE,
                tuple(
                    _asn(rng) for _ in range(rng.choice((1, 2, 5, 255)) if rng.random() < 0.2 else rng.randint(1, 4))
                ),
            )
            for _ in range(rng.choice((0, 1, 1, 1, 2, 3)))
        ),
        med=rng.getrandbits(32) if rng.random() < 0.4 else None,
        local_pref=rng.getrandbits(32) if internal else None,
        atomic_aggregate=rng.random() < 0.2,
        aggregator=(_asn(rng), IPv4Address(rng.getrandbits(32))) if rng.random() < 0.3 else None,
        communities=tuple((rng.getrandbits(16), rng.getrandbits(16)) for _ in range(_few(rng))),
        large_communities=tuple((rng.getrandbits(32), rng.getrandbits(32), i) for i in range(_few(rng))),
        extended_communities=tuple(rng.randbytes(8) for _ in range(_few(rng))),
        originator_id=IPv4Address(rng.getrandbits(32)) if internal and rng.random() < 0.3 else None,
        cluster_list=tuple(IPv4Address(rng.getrandbits(32)) for _ in range(_few(rng))) if internal else (),
        unknown=tuple(
            UnknownAttribute(0xE0, 99 + i, rng.randbytes(_few(rng) * 4)) for i in range(rng.choice((0, 0, 1, 2)))
        ),
    )


def _asn(rng: Random) -> int:
    return rng.choice(_NOTABLE_ASNS) if rng.random() < 0.3 else rng.randint(1, 2 ** rng.choice((8, 16, 32)) - 1)


def _few(rng: Random) -> int:
    return rng.choice((0, 0, 0, 1, 2, 5, 70))


def some_prefixes(rng: Random, family: Family, at_least: int = 1) -> bytes:
    """Make packed NLRI without host bits."""
    prefixes = b""
    for _ in range(rng.randint(at_least, 4)):
        length = rng.randint(0, WIDTHS[family])
        prefixes += bytes((length,)) + rng.randbytes((length + 7) // 8)
    return normal(prefixes, WIDTHS[family])


def some_format(rng: Random) -> Format:
    """Make something that two speakers could agree on."""
    families = rng.choice((frozenset(Family), frozenset(Family), *(frozenset({family}) for family in Family)))
    return Format(families, rng.random() < 0.5, rng.random() < 0.7, rng.random() < 0.5)


def some_update(rng: Random, agreed: Format) -> Parts:
    """Make an UPDATE of what was agreed on: withdrawn routes, attributes, NLRI."""
    family = rng.choice(sorted(agreed.families, key=lambda family: family.value))
    number = family.value[0] << 8 | family.value[1]
    kind = rng.random()
    if kind < 0.05:
        return parts(end_of_rib(number))
    if kind < 0.15:
        return parts(withdraw(number, some_prefixes(rng, family), LONGEST))
    by_ipv6 = family is Family.IPV6 or (agreed.extended_next_hop and rng.random() < 0.5)
    hop = IPv6Address(0x2001 << 112 | rng.getrandbits(64)) if by_ipv6 else IPv4Address(0xC0000200 | rng.getrandbits(8))
    octets = codec.encode(some_attributes(rng, internal=agreed.internal, next_hop=hop), family)
    if not agreed.four_octet:
        octets = codec.downgrade(octets)
    withdrawn, attributes, nlri = parts(announce(octets, some_prefixes(rng, family), LONGEST))
    if Family.IPV4 in agreed.families and rng.random() < 0.2:
        withdrawn = some_prefixes(rng, Family.IPV4)
    return withdrawn, attributes, nlri


def parts(message: bytes) -> Parts:
    """Take the one UPDATE apart."""
    [update], _, _ = split(message, LONGEST)
    assert len(update) == 4
    return update[1:]


# --- and how it is spoiled ----------------------------------------------------------------------------------


def spoiled(rng: Random, octets: bytes) -> bytes:
    """Change a few octets somewhere, or how many there are."""
    found = bytearray(octets)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 5))):
        at = rng.randrange(len(found) + 1)
        to = min(len(found), at + rng.choice((1, 1, 2, 4, 16)))
        rng.choice((_changed, _flipped, _lost, _grown, _doubled, _ended))(rng, found, at, to)
    return bytes(found)


def _changed(rng: Random, found: bytearray, at: int, to: int) -> None:
    found[at:to] = bytes(rng.choice(_TELLING) for _ in range(to - at))


def _flipped(rng: Random, found: bytearray, at: int, to: int) -> None:
    found[at:to] = bytes(octet ^ 1 << rng.randrange(8) for octet in found[at:to])


def _lost(rng: Random, found: bytearray, at: int, to: int) -> None:
    del found[at:to]


def _grown(rng: Random, found: bytearray, at: int, to: int) -> None:
    found[at:at] = rng.randbytes(rng.choice((1, 2, 4, 8)))


def _doubled(rng: Random, found: bytearray, at: int, to: int) -> None:
    found[at:at] = found[at:to]


def _ended(rng: Random, found: bytearray, at: int, to: int) -> None:
    del found[at:]


def spoiled_attributes(rng: Random, octets: bytes) -> bytes:
    """Spoil the list or one of the attributes, so that what is around it can still be read."""
    found, rest = codec.split(octets)
    for _ in range(rng.choice((0, 1, 1, 2))):
        at = rng.randrange(len(found) + 1)
        kind = rng.randrange(6)
        if at == len(found) or kind == 0:
            found.insert(at, _stranger(rng))
        elif kind == 1:
            found[at] = found[at]._replace(value=spoiled(rng, found[at].value))
        elif kind == 2:
            found[at] = found[at]._replace(
                flags=rng.choice((found[at].flags ^ 1 << rng.randrange(8), rng.getrandbits(8)))
            )
        elif kind == 3:
            found.insert(rng.randrange(len(found) + 1), found[at])
        elif kind == 4:
            found.append(found.pop(at))
        else:
            del found[at]
    return codec.join(found) + rest


def _stranger(rng: Random) -> Attribute:
    code = rng.choice((*Code, *Code, rng.getrandbits(8)))
    value = rng.randbytes(rng.choice((0, 1, 2, 4, 6, 8, 12, 300)))
    return Attribute(FLAGS.get(code, rng.getrandbits(8)), code, value)


# --- the targets --------------------------------------------------------------------------------------------


def fuzz_open(rng: Random) -> None:
    """An OPEN is read or refused with an OPEN Message Error; what was read can be said again."""
    said = tried(decode_open, spoiled(rng, encode_open(some_open(rng))[HEADER:]))
    if isinstance(said, Notify):
        assert said.code == 2
        assert said.subcode in (0, 1, 3, 4, 6)
        _presentable(said)
    elif said.families:
        assert decode_open(encode_open(said)[HEADER:]) == said


def fuzz_notification(rng: Random) -> None:
    """A NOTIFICATION is always read, and its words are safe for a log."""
    sent = rng.choice((
        shutdown(rng.choice((2, 4)), "".join(chr(rng.randrange(0x20, 0xD7FF)) for _ in range(rng.choice((0, 5, 200))))),
        Notify(6, 9, bytes((6, rng.randrange(11))) + rng.randbytes(5)),
        Notify(rng.getrandbits(3), rng.getrandbits(4), rng.randbytes(rng.choice((0, 7, 5000)))),
    ))  # fmt: skip
    assert len(encode_notification(sent)) <= SHORT_LIMIT
    assert decode_notification(encode_notification(sent)[HEADER:]) == sent or len(sent.data) > SHORT_LIMIT - HEADER - 2
    _presentable(decode_notification(spoiled(rng, encode_notification(sent)[HEADER:])))


def fuzz_refresh(rng: Random) -> None:
    """A ROUTE-REFRESH is read, or refused for its length."""
    body = spoiled(rng, encode_refresh(rng.choice(list(Family)), rng.randrange(4))[HEADER:])
    asked = tried(decode_refresh, body)
    if isinstance(asked, Notify):
        assert (asked.code, asked.subcode, asked.data[HEADER:]) == (7, 1, body)
        return
    family, subtype = asked
    assert len(body) == 4
    assert family is None or encode_refresh(family, subtype)[HEADER:] == body


def fuzz_attributes(rng: Random) -> None:
    """An attribute set is read or refused with ValueError; what was read is written in one way only."""
    family = rng.choice(list(Family))
    hop = rng.choice((IPv4Address(rng.getrandbits(32)), IPv6Address(rng.getrandbits(128))))
    octets = codec.encode(some_attributes(rng, internal=rng.random() < 0.5, next_hop=hop), family)
    octets = rng.choice((spoiled, spoiled_attributes))(rng, octets)
    try:
        codec.downgrade(octets)
        found = codec.decode(octets)
    except ValueError:
        return
    written = codec.encode(found, family)
    assert codec.encode(codec.decode(written), family) == written


def fuzz_update(rng: Random) -> None:
    """An UPDATE is read or ends the session; what was read is sound, and read again it is the same."""
    agreed = some_format(rng)
    withdrawn, attributes, nlri = some_update(rng, agreed if rng.random() < 0.9 else some_format(rng))
    match rng.randrange(4):
        case 0:
            withdrawn = spoiled(rng, withdrawn)
        case 1:
            nlri = spoiled(rng, nlri)
        case 2:
            attributes = spoiled(rng, attributes)
        case _:
            attributes = spoiled_attributes(rng, attributes)
    update = tried(read, withdrawn, attributes, nlri, agreed)
    if isinstance(update, Notify):
        assert update.code == 3
        assert update.subcode in (1, 2, 4, 5, 6, 8, 9, 10, 11)
        _presentable(update)
    else:
        sound(update, agreed)
        alike(update, (withdrawn, attributes, nlri), agreed)


def tried(call: Callable[..., T], *arguments: Any) -> T | Notify:
    """Call; what a codec may raise is an answer as well."""
    try:
        return call(*arguments)
    except Notify as notify:
        return notify


def _presentable(notify: Notify) -> None:
    assert notify.text.isprintable()
    assert len(encode_notification(notify)) <= SHORT_LIMIT


def sound(update: Update, agreed: Format) -> None:
    """Assert what holds for every UPDATE that was read."""
    assert update.detail.isprintable()
    assert not update.malformed or (update.detail and not update.announced)
    told = [*update.withdrawn, *update.malformed, *((family, nlri) for family, _, nlri in update.announced)]
    for family, nlri in told:
        assert nlri
        assert family in agreed.families
        assert normal(nlri, WIDTHS[family]) is nlri
    assert update.end_of_rib is None or (not told and update.end_of_rib in agreed.families)
    for family, octets, nlri in update.announced:
        _usable(octets, agreed)
        again = Format(agreed.families, agreed.internal, extended_next_hop=agreed.extended_next_hop)
        assert read(*parts(announce(octets, nlri, LONGEST)), again) == Update(announced=((family, octets, nlri),))
        _tellable(family, octets, nlri, agreed)


def _usable(octets: bytes, agreed: Format) -> None:
    found = codec.decode(octets)
    assert is_host(found.next_hop.packed)
    assert 0 not in found.path_asns
    assert all(segment.asns for segment in found.as_path)
    assert agreed.internal or (found.local_pref, found.originator_id, found.cluster_list) == (None, None, ())
    assert all(item.flags == 0xE0 for item in found.unknown)


def _tellable(family: Family, octets: bytes, nlri: bytes, agreed: Format) -> None:
    # To a speaker of two octets and back: the same set, though not in the same order.
    old = Format(agreed.families, agreed.internal, four_octet=False, extended_next_hop=agreed.extended_next_hop)
    back = read(*parts(announce(codec.downgrade(octets), nlri, LONGEST)), old)
    assert not back.detail
    assert [(family, _by_code(octets), nlri) for family, octets, nlri in back.announced] == [
        (family, _by_code(octets), nlri)
    ]


def _by_code(octets: bytes) -> Attributes:
    found = codec.decode(octets)
    return replace(found, unknown=tuple(sorted(found.unknown, key=lambda item: item.code)))


def alike(update: Update, received: Parts, agreed: Format) -> None:
    """Assert that the short way, where it takes an UPDATE, says what the complete one does."""
    withdrawn, attributes, nlri = received
    family, octets = Family.IPV4, attributes
    if not nlri and not withdrawn and (lifted := lift(attributes)) is not None:
        octets, reach, nlri, _, _ = lifted
        family = Family.IPV6 if reach == 2 << 8 | 1 else Family.IPV4
        if not nlri or reach not in (1 << 8 | 1, 2 << 8 | 1):
            return
    facts = scan(octets, agreed.internal) if nlri and agreed.four_octet and family in agreed.families else None
    if facts is None or (octets == attributes and octets[1] == Code.MP_REACH_NLRI):
        return
    asns, hop = facts
    carried = (len(hop) == 4) == (family is Family.IPV4) or (family is Family.IPV4 and agreed.extended_next_hop)
    # RFC 7607: left to the policy by the one, malformed to the other. Refused by both.
    if not carried or 0 in asns or not is_host(hop):
        assert not update.announced
    elif not _redundant(octets):
        assert update.announced == ((family, octets, normal(nlri, WIDTHS[family])),)


def _redundant(octets: bytes) -> bool:
    large = codec.decode(octets).large_communities
    return len(set(large)) < len(large)


TARGETS: tuple[Target, ...] = (
    fuzz_open,
    fuzz_notification,
    fuzz_refresh,
    fuzz_attributes,
    fuzz_update,
    fuzz_update,
)
