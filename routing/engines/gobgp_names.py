"""Which configured neighbour an address belongs to, and what names it in gobgpd. Pure.

Called by everything of the GoBGP engine that turns what gobgpd says about addresses into neighbours, or back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from routing.bgp.values import Address, Neighbor


def key_of(neighbor: Neighbor) -> str:
    """Return what names a neighbour in gobgpd: its address, or the name of the group for a range."""
    return neighbor.name if neighbor.address is None else str(neighbor.address)


class Names:
    """Neighbours by address: the one that has it, or the one with the longest range around it."""

    def __init__(self, neighbors: Sequence[Neighbor]) -> None:
        """Index the neighbours."""
        self._single = {neighbor.address: neighbor for neighbor in neighbors if neighbor.address is not None}
        self._ranges = sorted(
            ((neighbor.range, neighbor) for neighbor in neighbors if neighbor.range is not None),
            key=lambda item: -item[0].prefixlen,
        )

    @property
    def addresses(self) -> Iterable[Address]:
        """Return the addresses of all neighbours that have one."""
        return self._single.keys()

    def neighbor(self, address: Address) -> Neighbor | None:
        """Return the neighbour, None if there is none."""
        single = self._single.get(address)
        if single is not None:
            return single
        return next((neighbor for network, neighbor in self._ranges if address in network), None)

    def name(self, address: Address) -> str:
        """Return the neighbour's name; the address of one that is configured no more."""
        neighbor = self.neighbor(address)
        return str(address) if neighbor is None else neighbor.name
