"""`python -m bench.fib`: routes into the kernel per second, and failing them over, beside the alternatives.

Everything runs in namespaces of its own, in alternating rounds, so that what disturbs the machine disturbs all alike;
medians are shown. Half of the routes go via neighbour A, half via C; then A fails and its half goes via B. In the end
all of them go one way, and are led another by one message.

Edgeway is `RoutesPort.apply` of a ready plan; the same with `diff` from facts; `replace_hops`; a plan that moves a half.
The others are in `bench.fibrivals`. Raw netlink packs the same networks as ours has in its plan; what it costs to send
what was packed before is shown as well. IPv6 has no bound for failing over: the kernel looks at each route.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from appliance.kernel.routes import RoutesPort
from appliance.model.facts import HOST, Hop, Route
from appliance.model.marks import PROTO_BGP
from appliance.panel.tables import console, table
from appliance.state.diff import Change, Plan, diff
from bench.compare import held_to, said, times
from bench.fibload import ADD, ALL, Load, Seen, loads
from bench.fibrivals import BIRD, GATEWAYS, OBJECTS, RAW, READY, rivals
from bench.place import WIRE, Place, own_time, place

if TYPE_CHECKING:
    from bench.compare import Row, Rows

READY_PLAN, REPLACE_HOPS = "Edgeway, a ready plan", "Edgeway, replace_hops"
#: Promised: routes per second beside others, and milliseconds for leading all of them another way.
BESIDE: Final = {BIRD: 2.0, f"{RAW}, {GATEWAYS}": 0.9, f"{RAW}, {OBJECTS}": 0.9}
MILLISECONDS: Final = 1.0
#: Times that all routes are led another way in a round: one takes too short to be measured well.
_TURNS = 10


def edgeway(at: Place, load: Load, seen: Seen) -> None:
    """Measure our port, from facts."""
    first, backup, last = ((Hop(WIRE, via),) for via in (load.first, load.backup, load.last))
    ways = [first] * load.half + [last] * load.half
    facts = [Route(HOST, network, hops, PROTO_BGP) for network, hops in zip(load.networks, ways, strict=True)]
    port = RoutesPort(at.namespaces)
    with own_time() as watch:
        port.apply(diff(port.read(), facts))
    seen.add(load, "Edgeway, read and diff included", watch, _there(at, load))
    with own_time() as watch:
        port.replace_hops(HOST, PROTO_BGP, first, backup)
    seen.half(load, REPLACE_HOPS, watch, sum(route.hops == backup for route in port.read()))
    port.apply(diff(port.read(), []))
    plan = diff([], facts)
    with own_time() as watch:
        port.apply(plan)
    seen.add(load, READY_PLAN, watch, _there(at, load))
    moves = diff(facts, [replace(fact, hops=backup) if fact.hops == first else fact for fact in facts])
    with own_time() as watch:
        port.apply(moves)
    seen.half(load, READY_PLAN, watch, sum(route.hops == backup for route in port.read()))
    port.apply(diff(port.read(), []))
    _turn(load, seen, port, (first, backup))
    port.apply(diff(port.read(), []))


def _turn(load: Load, seen: Seen, port: RoutesPort, ways: tuple[tuple[Hop, ...], tuple[Hop, ...]]) -> None:
    """Lead all routes to and fro."""
    old, new = ways
    facts = [Route(HOST, network, old, PROTO_BGP) for network in load.networks]
    port.apply(Plan(tuple([Change("create", None, fact) for fact in facts])))
    for _ in range(_TURNS):
        with own_time() as watch:
            moved = port.replace_hops(HOST, PROTO_BGP, old, new)
        seen.whole(load, REPLACE_HOPS, watch, moved)
        old, new = new, old
    assert all(route.hops == old for route in port.read())


def _there(at: Place, load: Load) -> int:
    """Count our routes."""
    return at.routes("proto", str(PROTO_BGP), version=load.version)


def promises(load: Load, seen: Seen) -> Rows:
    """Return a row for each promise: how many times as many routes per second as others, and milliseconds."""
    ours = seen.seconds(load, ADD, READY_PLAN)
    found: Rows = []
    for by in (*BESIDE, *(f"{RAW}, {kind}, {READY}" for kind in (GATEWAYS, OBJECTS))):
        if theirs := seen.seconds(load, ADD, by):
            ratio = held_to(times(theirs, ours), least=BESIDE.get(by))
            found.append({"what": f"{load.did(ADD)}, routes/s beside {by}", "by": READY_PLAN, **ratio})
    took = statistics.median(seen.seconds(load, ALL, REPLACE_HOPS)) * 1e3
    row: Row = {"what": f"{load.did(ALL)}, beside {MILLISECONDS:g} ms", "by": REPLACE_HOPS}
    return [*found, row | held_to(took / MILLISECONDS, 1.0 if load.version == 4 else None)]


def run(rounds: int = 5, n: int = 200_000) -> Rows:
    """Measure all contenders in turn, as many rounds; return a row for each thing that each one did, and promises."""
    seen, both = Seen(), loads(n)
    for number in range(rounds):
        for load in both:
            for contender in (edgeway, *rivals()):
                said(f"routes: round {number + 1} of {rounds}, IPv{load.version}, {contender.__name__}")
                with place() as at:
                    contender(at, load, seen)
    return [*seen.rows(), *(row for load in both for row in promises(load, seen))]


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(prog="bench.fib", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--routes", type=int, default=200_000)
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    chosen = parser.parse_args()
    rows = run(chosen.rounds, chosen.routes)
    if chosen.json:
        print(json.dumps(rows, indent=2))
    else:
        console().print(table(rows, "Routes into the kernel, and failing them over"))


if __name__ == "__main__":
    main()
