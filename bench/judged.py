"""A router that judges flows by the program of the stateful core (design 0004), the least that has all its parts.

One engine, nothing but a default that allows, instructions above it. What the kernel port shares with the program (the
dispatch map, the engine's chain) it makes itself, as in any edge.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from appliance.kernel.nft import NftPort
from appliance.model.facts import Engine, FlowKey, Instruction, Namespace, NftTable
from appliance.model.marks import ENGINE_MASK, Action, engine_chain
from appliance.state.diff import Change, Plan, diff
from bench.road import Road
from services.feature import Chain, EdgeParts
from services.flows import program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.kernel.nft_script import Fact
    from bench.packets import Stream

ENGINE: Final = 1


def facts(ns: Namespace) -> list[Fact]:
    """Return the table and its engine."""
    parts = EdgeParts.merge(
        (
            program.base(("fib daddr type { local, broadcast, multicast } accept",)),
            EdgeParts(chains=(*program.engines([ENGINE]), Chain("decide", _decide()))),
        )
    )
    body = "\n".join([*parts.declarations, *(chain.text for chain in parts.chains)])
    return [NftTable(ns, body), *parts.sets, Engine(ns, ENGINE, "bench")]


def _decide() -> tuple[str, ...]:
    """Obey the flow's instruction; else allow."""
    stamp = engine_chain(ENGINE)
    return (
        "meta mark set 0",
        *program.instructions((4, 6)),
        program.goto_decided(stamp),
        f"meta mark set {program.word(Action.ALLOW):#x}",
        f"goto {stamp}",
    )


@dataclass(frozen=True)
class Judged:
    """The router, and the port that owns its table."""

    road: Road
    port: NftPort

    @classmethod
    def build(cls, road: Road) -> Judged:
        """Put the program into a router."""
        port = NftPort(road.place.namespaces)
        made = cls(road, port)
        made.apply(diff([], facts(road.ns)))
        return made

    def apply(self, plan: Plan[Fact]) -> None:
        """Have the port carry a plan out; all of it."""
        failures = self.port.apply(plan)
        assert not failures, failures

    def instruct(self, streams: Sequence[Stream]) -> None:
        """Deny a flow of each stream: its row, and the bump of its engine."""
        self.apply(Plan(tuple(Change("create", None, self._instruction(stream)) for stream in streams)))

    def relent(self, streams: Sequence[Stream]) -> None:
        """Take instructions back."""
        self.apply(Plan(tuple(Change("delete", self._instruction(stream), None) for stream in streams)))

    def _instruction(self, stream: Stream) -> Instruction:
        ports = stream.source_port, stream.destination_port
        key = FlowKey(stream.source, ports[0], stream.destination, ports[1], stream.protocol)
        return Instruction(self.road.ns, key, Action.DENY)


def flow(stream: Stream, number: int) -> Stream:
    """Return one flow of a stream alone; `number` is below the number of ports."""
    return replace(stream, source_port=stream.source_port + number, flows=1)


#: Marks that no record has: a dump that the kernel filters returns nothing, and looks at everything.
NONE: Final = (254 << 12, ENGINE_MASK)
