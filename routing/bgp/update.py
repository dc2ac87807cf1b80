"""UPDATE on the complete path: whatever octets come, what they say, or that the session must end.

Called by the tables with what `hot.split` made of a message and the quick way declined. RFC 4271 4.3 and 6.3, RFC 4760,
RFC 7606 (which error costs what: an attribute, the routes, the session), RFC 4724 2 (End-of-RIB), RFC 8950. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from routing.bgp.attributes import FLAGS, OPTIONAL, TRANSITIVE, Attribute, Code, join, known, reduced, split
from routing.bgp.hot import normal
from routing.bgp.nlri import WIDTHS
from routing.bgp.notify import UPDATE_ERROR, Notify
from routing.bgp.values import Family
from routing.bgp.vetting import (
    INVALID_NETWORK,
    INVALID_NEXT_HOP,
    LENGTH_ERROR,
    MALFORMED_LIST,
    MISSING_WELL_KNOWN,
    OPTIONAL_ERROR,
    Fault,
    describe,
    is_host,
    vet,
)

_FAMILIES = {family.value: family for family in Family}
_MP = frozenset({Code.MP_REACH_NLRI, Code.MP_UNREACH_NLRI})
_AFI_SAFI = 3
_TOLD = 8


@dataclass(frozen=True, slots=True)
class Format:
    """What both OPENs agreed on that changes how UPDATEs are read and written."""

    families: frozenset[Family]
    internal: bool
    four_octet: bool = True
    extended_next_hop: bool = False
    limit: int = 4096


@dataclass(frozen=True, slots=True)
class Update:
    """What an UPDATE says: NLRI by family, with attribute octets (design note 0008) where it is reachable.

    `malformed` was announced with attributes that nobody can use: to be treated as withdrawn. `detail` says to the log
    what was wrong, also when only an attribute was discarded.
    """

    withdrawn: tuple[tuple[Family, bytes], ...] = ()
    announced: tuple[tuple[Family, bytes, bytes], ...] = ()
    malformed: tuple[tuple[Family, bytes], ...] = ()
    end_of_rib: Family | None = None
    detail: str = ""


class _Reach(NamedTuple):
    """What an MP_REACH_NLRI of a family that was agreed on says."""

    family: Family
    next_hop: bytes
    nlri: bytes


def read(withdrawn: bytes, attributes: bytes, nlri: bytes, format: Format) -> Update:  # noqa: A002 - it is one
    """Read an UPDATE; Notify where RFC 7606 leaves nothing but to reset the session."""
    found, rest = split(attributes)
    gone, come = _prefixes(withdrawn, Family.IPV4), _prefixes(nlri, Family.IPV4)
    first, notes = _first(found)
    reach, unreach = first.pop(Code.MP_REACH_NLRI, None), first.pop(Code.MP_UNREACH_NLRI, None)
    lost = None if unreach is None else _unreached(unreach, format, notes)
    gained = None if reach is None else _reached(reach, format, notes)
    if reach is not None and not come:
        first.pop(Code.NEXT_HOP, None)  # RFC 4760 3: "SHOULD ignore this attribute"
    kept, faults, discarded = vet(first.values(), internal=format.internal, four_octet=format.four_octet)
    faults = [*_cut_off(rest), *_no_host(gained), *faults]
    if come or (gained is not None and gained.nlri):
        faults += _missing(first, plain=bool(come))
    elif faults and (reach is None or gained is not None):
        # RFC 7606 5.2: attributes, an error that is more than a discarded attribute, and no reachable NLRI:
        # "we cannot be confident that the NLRI have been successfully parsed".
        raise faults[0].notify()
    announced = tuple(_announced(kept, come, gained, format))
    return Update(
        withdrawn=tuple(_withdrawn(gone, lost, format)),
        announced=() if faults else announced,
        malformed=tuple((family, prefixes) for family, _, prefixes in announced) if faults else (),
        end_of_rib=None if withdrawn or nlri or rest else _end(found, lost, format),
        detail=_told([*(fault.text for fault in faults), *discarded, *notes]),
    )


def _told(texts: list[str]) -> str:
    # A message may hold twenty thousand attributes, each with something wrong: that is one line as well.
    more = len(texts) - _TOLD
    return "; ".join([*texts[:_TOLD], f"and {more} more"] if more > 0 else texts)


def _prefixes(nlri: bytes, family: Family, attribute: Attribute | None = None) -> bytes:
    # RFC 7606 3 j and 5.3: what cannot be read cannot be withdrawn either.
    try:
        return normal(nlri, WIDTHS[family])
    except ValueError as error:
        if attribute is not None:
            raise _incorrect(attribute, str(error)) from None
        text = f"UPDATE Message Error: {error}"
        raise Notify(UPDATE_ERROR, INVALID_NETWORK, b"", text) from None


def _incorrect(attribute: Attribute, why: str) -> Notify:
    # RFC 4760 7: "Optional Attribute Error"; RFC 4271 6.3: its data is the attribute.
    text = f"UPDATE Message Error: {describe(attribute)}: {why}"
    return Notify(UPDATE_ERROR, OPTIONAL_ERROR, attribute.octets(), text)


def _first(found: list[Attribute]) -> tuple[dict[int, Attribute], list[str]]:
    # RFC 7606 3 g: of NLRI there can be only one, of everything else the first counts.
    first: dict[int, Attribute] = {}
    notes = []
    for attribute in found:
        if attribute.code not in first:
            first[attribute.code] = attribute
        elif attribute.code in _MP:
            text = f"UPDATE Message Error: {describe(attribute)} is there twice"
            raise Notify(UPDATE_ERROR, MALFORMED_LIST, b"", text)
        else:
            notes.append(f"{describe(attribute)} is there more than once")
    return first, notes


def _cut_off(rest: bytes) -> list[Fault]:
    # RFC 7606 4: the end of the attributes is certain, so the NLRI behind it are; not so NLRI that are cut off (3 j).
    if not rest:
        return []
    fault = Fault(LENGTH_ERROR, rest, f"the attributes end within one: {rest[:4].hex()}")
    if len(rest) > 1 and rest[1] in _MP:
        raise fault.notify()
    return [fault]


def _family(attribute: Attribute, shortest: int, agreed: Format, notes: list[str]) -> Family | None:
    """Return the family of an MP attribute if it was agreed on.

    RFC 7606 7.11 leaves the choice to reset the session or to disable the family; one without agreement is disabled.
    """
    value = attribute.value
    family = _FAMILIES.get((int.from_bytes(value[:2], "big"), value[2])) if len(value) >= _AFI_SAFI else None
    if len(value) >= _AFI_SAFI and family not in agreed.families:
        notes.append(f"{describe(attribute)}: the family was not agreed on")
        return None
    if family is None or len(value) < shortest:
        raise _incorrect(attribute, f"{len(value)} octets are too few")  # RFC 7606 5.3
    if (attribute.flags ^ FLAGS[attribute.code]) & (OPTIONAL | TRANSITIVE):
        raise _incorrect(attribute, "the flags are wrong")  # RFC 7606 5.3
    return family


def _unreached(attribute: Attribute, agreed: Format, notes: list[str]) -> tuple[Family, bytes] | None:
    family = _family(attribute, _AFI_SAFI, agreed, notes)
    return None if family is None else (family, _prefixes(attribute.value[_AFI_SAFI:], family, attribute))


def _reached(attribute: Attribute, agreed: Format, notes: list[str]) -> _Reach | None:
    family = _family(attribute, 5, agreed, notes)
    if family is None:
        return None
    value = attribute.value
    end = 4 + value[3]
    # RFC 7606 7.11: a length that was not expected leaves open where the NLRI begin.
    if value[3] not in _hop_lengths(family, agreed) or end >= len(value):
        raise _incorrect(attribute, f"a next hop of {value[3]} octets")
    # RFC 2545 3: of two the second is link-local, and means nothing on another link. After them the reserved octet.
    return _Reach(family, value[4 : min(end, 20)], _prefixes(value[end + 1 :], family, attribute))


def _hop_lengths(family: Family, agreed: Format) -> tuple[int, ...]:
    if family is Family.IPV6:
        return (16, 32)
    return (4, 16, 32) if agreed.extended_next_hop else (4,)  # RFC 8950 3


def _no_host(gained: _Reach | None) -> list[Fault]:
    if gained is None or is_host(gained.next_hop):
        return []
    return [Fault(INVALID_NEXT_HOP, gained.next_hop, f"next hop {gained.next_hop.hex()} is no address of a host")]


def _missing(first: dict[int, Attribute], *, plain: bool) -> list[Fault]:
    # RFC 7606 3 d. LOCAL_PREF is not among them (RFC 4271 5): without one a path has the default.
    mandatory = (Code.ORIGIN, Code.AS_PATH, Code.NEXT_HOP) if plain else (Code.ORIGIN, Code.AS_PATH)
    return [
        Fault(MISSING_WELL_KNOWN, bytes((code,)), f"{code.name} is missing") for code in mandatory if code not in first
    ]


def _withdrawn(gone: bytes, lost: tuple[Family, bytes] | None, agreed: Format) -> Iterator[tuple[Family, bytes]]:
    if gone and Family.IPV4 in agreed.families:
        yield Family.IPV4, gone
    if lost is not None and lost[1]:
        yield lost


def _announced(
    kept: list[Attribute], come: bytes, gained: _Reach | None, agreed: Format
) -> Iterator[tuple[Family, bytes, bytes]]:
    if come and Family.IPV4 in agreed.families:
        yield Family.IPV4, join(kept), come
    if gained is not None and gained.nlri:
        others = [attribute for attribute in kept if attribute.code != Code.NEXT_HOP]
        yield gained.family, join(_with_hop(gained, others)), gained.nlri


def _with_hop(gained: _Reach, others: list[Attribute]) -> list[Attribute]:
    if gained.family is Family.IPV4 and len(gained.next_hop) == 4:  # noqa: PLR2004 - the width of IPv4
        # First, as `hot.lift` does: one set has one form whichever of the two reads it.
        return [known(Code.NEXT_HOP, gained.next_hop), *others]
    return [reduced(gained.family, gained.next_hop), *others]


def _end(found: list[Attribute], lost: tuple[Family, bytes] | None, agreed: Format) -> Family | None:
    # RFC 4724 2: an UPDATE of nothing, or of an MP_UNREACH_NLRI without NLRI and nothing else.
    if not found:
        return Family.IPV4 if Family.IPV4 in agreed.families else None
    return lost[0] if len(found) == 1 and lost is not None and not lost[1] else None
