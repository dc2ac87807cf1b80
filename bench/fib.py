"""`python -m bench.fib`: routes into the kernel per second, and failing half of them over, beside the alternatives.

Everything runs in namespaces of its own, in alternating rounds, so that what disturbs the machine disturbs all alike;
medians are shown. Half of the routes go via neighbour A, half via C; then A fails and its half goes via B.

- Edgeway: `RoutesPort.apply` of a ready plan; the same with `diff` from facts; `replace_hops`; a plan that moves a half.
- ip: `ip -batch` of files that are ready.
- BIRD: static routes, enabled and disabled by birdc, to its kernel protocol; the backup is in its table already.
- FRR: zebra told by bgpd, which is told by a BGP session that does nothing else; the backup is in its table already.

Daemons are watched by the CPU time they take: they are done when they rest. CPU is theirs and the kernel's on their
behalf; what the kernel does later by itself (RCU) is nobody's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.kernel.routes import RoutesPort
from appliance.model.facts import HOST, Hop, Route
from appliance.model.marks import PROTO_BGP
from appliance.panel.tables import console, table
from appliance.state.diff import diff
from bench.feeder import Feeder
from bench.place import BOX, FEEDER, WIRE, A, B, C, Place, Watch, own_time, place, quiet, time_of

if TYPE_CHECKING:
    from collections.abc import Callable

Rows = list[dict[str, Any]]
ZEBRA, BGPD = Path("/usr/lib/frr/zebra"), Path("/usr/lib/frr/bgpd")
_WITHIN = 30.0


@dataclass
class Measured:
    """Every measurement, by what was done and by whom; the number of routes with it."""

    half: int
    seen: dict[tuple[str, str], list[tuple[int, Watch]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, by: str, watch: Watch, there: int) -> None:
        """Note how long all routes took; `there` is how many the kernel has."""
        assert there == 2 * self.half, f"{by}: {there} routes in the kernel"
        self.seen["add", by].append((2 * self.half, watch))

    def fail_over(self, by: str, watch: Watch, there: int) -> None:
        """Note how long half of the routes took; `there` is how many go via B."""
        assert there == self.half, f"{by}: {there} routes via B"
        self.seen["fail over", by].append((self.half, watch))

    def rows(self) -> Rows:
        """Return medians."""
        return [
            self._row(what, by, some) for (what, by), some in sorted(self.seen.items(), key=lambda item: item[0][0])
        ]

    @staticmethod
    def _row(what: str, by: str, some: list[tuple[int, Watch]]) -> dict[str, Any]:
        walls = [watch.wall for _, watch in some]
        count, wall = some[0][0], statistics.median(walls)
        return {
            "what": f"{what} {count:,}",
            "by": by,
            "routes/s": f"{count / wall:,.0f}",
            "median ms": round(wall * 1e3, 2),
            "least ms": round(min(walls) * 1e3, 2),
            "most ms": round(max(walls) * 1e3, 2),
            "CPU us/route": round(statistics.median(watch.cpu for _, watch in some) / count * 1e6, 2),
        }


def networks(count: int) -> list[IPv4Network]:
    """Return as many /24s from 16.0.0.0 on."""
    return [IPv4Network(((16 << 24) + (number << 8), 24)) for number in range(count)]


def hop(via: str) -> tuple[Hop, ...]:
    """Return the way via a neighbour."""
    return (Hop(WIRE, IPv4Address(via)),)


def edgeway(at: Place, some: list[IPv4Network], seen: Measured) -> None:
    """Measure our port, from facts."""
    first, last, backup = hop(A), hop(C), hop(B)
    facts = [Route(HOST, network, first if n < seen.half else last, PROTO_BGP) for n, network in enumerate(some)]
    port = RoutesPort(at.namespaces)
    with own_time() as watch:
        port.apply(diff(port.read(), facts))
    seen.add("Edgeway, read and diff included", watch, at.routes("proto", str(PROTO_BGP)))
    with own_time() as watch:
        assert port.replace_hops(HOST, PROTO_BGP, first, backup) == seen.half
    seen.fail_over("Edgeway, replace_hops", watch, sum(route.hops == backup for route in port.read()))
    port.apply(diff(port.read(), []))
    plan = diff([], facts)
    with own_time() as watch:
        port.apply(plan)
    seen.add("Edgeway, a ready plan", watch, at.routes("proto", str(PROTO_BGP)))
    moves = diff(facts, [replace(fact, hops=backup) if fact.hops == first else fact for fact in facts])
    with own_time() as watch:
        port.apply(moves)
    seen.fail_over("Edgeway, a ready plan", watch, sum(route.hops == backup for route in port.read()))
    port.apply(diff(port.read(), []))
    port.close()


def iproute(at: Place, some: list[IPv4Network], seen: Measured) -> None:
    """Measure `ip -batch`."""
    adding, moving = at.directory / "add", at.directory / "move"
    via = [A] * seen.half + [C] * seen.half
    adding.write_text("".join(f"route add {n} via {v} dev {WIRE} proto 186\n" for n, v in zip(some, via, strict=True)))
    moving.write_text("".join(f"route replace {n} via {B} dev {WIRE} proto 186\n" for n in some[: seen.half]))
    with own_time() as watch:
        at.run("ip", "-batch", str(adding))
    seen.add("ip -batch", watch, at.routes("proto", "186"))
    with own_time() as watch:
        at.run("ip", "-batch", str(moving))
    seen.fail_over("ip -batch", watch, at.routes("proto", "186", "via", B))
    at.run("ip", "route", "flush", "proto", "186")


def bird(at: Place, some: list[IPv4Network], seen: Measured) -> None:
    """Measure BIRD's static and kernel protocols."""
    config, control = at.directory / "bird.conf", at.directory / "bird.ctl"
    halves = (
        ("half_a", A, 200, some[: seen.half]),
        ("half_c", C, 200, some[seen.half :]),
        ("backup", B, 100, some[: seen.half]),
    )
    config.write_text(
        f"router id {BOX};\nprotocol device {{}}\n"
        "protocol kernel { learn off; ipv4 { import none; export all; }; }\n"
        + "".join(
            f"protocol static {name} {{ disabled; ipv4 {{ preference {preference}; }};\n"
            + "".join(f"route {network} via {via};\n" for network in part)
            + "}\n"
            for name, via, preference, part in halves
        )
    )
    pid = at.start("bird", "-f", "-c", str(config), "-s", str(control), "-P", str(at.directory / "bird.pid"))
    _until(control.exists)
    quiet(pid)
    with time_of(pid) as watch:
        for name in ("half_a", "half_c"):
            at.run("birdc", "-s", str(control), "enable", name)
    seen.add("BIRD 2, static to kernel", watch, at.routes("proto", "bird"))
    at.run("birdc", "-s", str(control), "enable", "backup")
    quiet(pid)
    with time_of(pid) as watch:
        at.run("birdc", "-s", str(control), "disable", "half_a")
    seen.fail_over("BIRD 2, static to kernel", watch, at.routes("proto", "bird", "via", B))
    at.stop()
    at.run("ip", "route", "flush", "proto", "bird")


def frr(at: Place, some: list[IPv4Network], seen: Measured) -> None:
    """Measure zebra, fed by bgpd."""
    home = at.directory / "frr"
    home.mkdir(exist_ok=True)
    shutil.chown(home, "frr", "frr")
    peers = "".join(
        f" neighbor {address} remote-as external\n neighbor {address} passive\n"
        f" neighbor {address} prefix-list none out\n"
        for address in (A, B, C)
    )
    (home / "zebra.conf").write_text("")
    (home / "bgpd.conf").write_text(
        f"router bgp 65000\n bgp router-id {BOX}\n no bgp ebgp-requires-policy\n{peers}!\nip prefix-list none deny any\n"
    )
    common = ("-P", "0", "--vty_socket", str(home), "-z", str(home / "zserv.api"), "--log", f"file:{home / 'log'}")
    pids = []
    for program in (ZEBRA, BGPD):
        name = program.name
        pids.append(at.start(str(program), "-f", str(home / f"{name}.conf"), "-i", str(home / f"{name}.pid"), *common))
        _until((home / f"{name}.vty").exists)
        quiet(*pids)
    with at.namespaces.in_namespace(FEEDER):
        first, backup, last = (Feeder(address, BOX, 65001 + n) for n, address in enumerate((A, B, C)))
    quiet(*pids)
    with time_of(*pids) as watch:
        first.announce(some[: seen.half])
        last.announce(some[seen.half :])
    seen.add("FRR, bgpd to zebra", watch, at.routes("proto", "bgp"))
    backup.announce(some[: seen.half], detour=2)
    quiet(*pids)
    with time_of(*pids) as watch:
        first.close()
    seen.fail_over("FRR, bgpd to zebra", watch, at.routes("proto", "bgp", "via", B))
    for feeder in (backup, last):
        feeder.close()
    at.stop()
    at.run("ip", "route", "flush", "proto", "bgp")


def _until(probe: Callable[[], bool]) -> None:
    """Wait for a daemon that starts."""
    end = time.monotonic() + _WITHIN
    while not probe():
        assert time.monotonic() < end, "a daemon does not start"
        time.sleep(0.05)


def contenders() -> list[Callable[[Place, list[IPv4Network], Measured], None]]:
    """Return who is installed."""
    found: list[Callable[[Place, list[IPv4Network], Measured], None]] = [edgeway, iproute]
    if shutil.which("bird") and shutil.which("birdc"):
        found.append(bird)
    if ZEBRA.exists() and BGPD.exists():
        found.append(frr)
    return found


def run(rounds: int = 5, n: int = 200_000) -> Rows:
    """Measure all contenders in turn, as many rounds; return a row for each thing that each one did."""
    seen = Measured(n // 2)
    some = networks(2 * seen.half)
    for _ in range(rounds):
        for contender in contenders():
            with place() as at:
                contender(at, some, seen)
    return seen.rows()


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
        console().print(table(rows, "Routes into the kernel, and failing half of them over"))


if __name__ == "__main__":
    main()
