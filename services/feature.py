"""What every service is: pure functions from its section of the intent and what is known now to parts of an edge.

A service never touches the kernel: it returns `EdgeParts`, which `services.edge` puts together into one namespace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields

from appliance.model.facts import Advertisement, Fact, NftSet, Route


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain of the nft table; one without a header (`type ... hook ...`) is reached by jump or goto."""

    name: str
    statements: tuple[str, ...] = ()
    header: str = ""

    @property
    def text(self) -> str:
        """Write it as nft reads it."""
        lines = [f"  {self.header};"] if self.header else []
        return "\n".join([f"chain {self.name} {{", *lines, *(f"  {line}" for line in self.statements), "}"])


@dataclass(frozen=True, slots=True)
class EdgeParts:
    """What one service adds to a VPC's edge on one host.

    `prerouting` and `postrouting` are statements of the nat chains of these names, in order; `chains` are further
    chains; `declarations` are sets, maps and counters, without elements, that they refer to; `sets` hold the elements.
    `facts` is all else.
    """

    declarations: tuple[str, ...] = ()
    prerouting: tuple[str, ...] = ()
    postrouting: tuple[str, ...] = ()
    chains: tuple[Chain, ...] = ()
    sets: tuple[NftSet, ...] = ()
    routes: tuple[Route, ...] = ()
    advertisements: tuple[Advertisement, ...] = ()
    facts: tuple[Fact, ...] = ()

    @classmethod
    def merge(cls, parts: Iterable[EdgeParts]) -> EdgeParts:
        """Join the parts of several services, keeping their order."""
        every = tuple(parts)
        return cls(**{f.name: tuple(item for part in every for item in getattr(part, f.name)) for f in fields(cls)})


@dataclass(frozen=True, slots=True)
class Runtime:
    """What is known now and is no intent: port blocks taken per VPC, newest last; backends that are down.

    `blocks` holds indexes into the host's own sequence of blocks (see `services.nat`); `down` holds (vpc, guest, port),
    `nodes_down` (vpc, service node).
    """

    blocks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    down: frozenset[tuple[str, str, int]] = frozenset()
    nodes_down: frozenset[tuple[str, str]] = frozenset()
