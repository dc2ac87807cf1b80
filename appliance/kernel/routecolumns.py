"""Changes of routes as columns, and columns as messages: all that looks at every single route on its way to the kernel.

Pure; called by `routebuckets` and `rtnetlink`. This is most of what a route costs beside the kernel's own work, so it
exists twice, with one set of tests: in Python (the reference, below) and in C (`_routecolumns.c`), which is taken if it is
built and EDGEWAY_PURE=1 is not in the environment.
"""

from __future__ import annotations

import os
from array import array
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from appliance.model.facts import Hop, Network, Route
from appliance.state.diff import Change

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Hops", "RouteChange", "Row", "Work", "fill", "gather", "number"]

Hops = tuple[Hop, ...]
Work = Literal["delete", "move", "put"]
RouteChange = Change[Route]
#: What is done, protocol, IP version, length of the prefix, hops and MTU: all changes of a row have them, and the very
#: same tuple of hops. Then the columns: changes, the facts that they make or unmake, the octets of all addresses, and the
#: numbers of the prefixes.
Row = tuple[Work, int, int, int, Hops, int | None, list[RouteChange], list[Route], bytearray, list[int]]
#: Words before the sequence number and before the destination of a message.
_SEQUENCE, _DESTINATION = 2, 8


def number(network: Network) -> int:
    """Number a prefix: a one and then its bits, so that no two prefixes of a family are the same.

    A dictionary is quick with numbers that differ in their last bits; the last bits of network addresses are zeros.
    """
    return 1 << network.prefixlen | int(network.network_address) >> network.max_prefixlen - network.prefixlen


def _work(change: RouteChange) -> Work:
    """Tell what is done: routes are deleted, moved (nothing but their hops changes), or put there."""
    if change.new is None:
        return "delete"
    return "put" if change.old is None or change.old.mtu != change.new.mtu else "move"


def _gather(changes: Sequence[RouteChange]) -> list[Row]:
    """Return a row for each kind of changes, in the order of their first ones."""
    rows: dict[tuple[Work, int, type, int, int, int | None], Row] = {}
    for change in changes:
        fact, work = change.fact, _work(change)
        network = fact.destination
        hops, mtu = ((), None) if work == "delete" else (fact.hops, fact.mtu)
        kind = (work, fact.proto, type(network), network.prefixlen, id(hops), mtu)
        row = rows.get(kind)
        if row is None:
            start = (work, fact.proto, network.version, network.prefixlen, hops, mtu)
            row = rows[kind] = (*start, [], [], bytearray(), [])
        row[6].append(change)
        row[7].append(fact)
        row[8].extend(network.network_address.packed)
        row[9].append(number(network))
    return [*rows.values()]


def _fill(template: bytes, octets: bytes | bytearray, size: int, sequence: int) -> bytearray:
    """Return a message for each address, given one after the other, each of so many octets; numbered from `sequence` on."""
    words, found = array("I", template), array("I", octets)
    width, parts = len(words), size // 4
    count = len(found) // parts
    packed = words * count
    packed[_SEQUENCE::width] = array("I", range(sequence, sequence + count))
    for part in range(parts):
        packed[_DESTINATION + part :: width] = found[part::parts]
    return bytearray(packed)


gather, fill = _gather, _fill
if os.environ.get("EDGEWAY_PURE") != "1":
    with suppress(ImportError):  # there may have been no compiler
        from appliance.kernel._routecolumns import fill, gather
