"""`python -m bench [--json] [--rounds N] [SUITE ...]`: measurements beside what one would use instead.

Suites: fib, flows, rules, boot, lab; of the route server's engine: verify, routes, many, delay, reload.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable
from typing import Any

from appliance.panel.tables import console, table
from bench import boot, fib, flows, lab, rules
from bench.bgp import delay, many, reload, routes, verify

Rows = list[dict[str, Any]]

SUITES: dict[str, tuple[str, Callable[[int], Rows]]] = {
    "fib": ("Routes into the kernel, and failing them over", fib.run),
    "flows": ("One flow's instruction, and what the fast path costs", flows.run),
    "rules": ("Rules: what they cost a packet, and the kernel", rules.run),
    "verify": ("Route servers: does each say what it should?", verify.run),
    "routes": ("Route servers: a day's work", routes.run),
    "many": ("Route servers: a thousand clients", many.run),
    "delay": ("Route servers: how soon the last client knows", delay.run),
    "reload": ("Route servers: a change of policy", reload.run),
    "boot": ("From power on to ready, emulated: seconds", boot.run),
    "lab": ("The zone of labs/az: seconds", lab.run),
}


def main() -> None:
    """Run the suites that are named, or all, and print a table each."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("suites", nargs="*", choices=[*SUITES, []], help="all when none is named")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds; medians are shown")
    parser.add_argument("--json", action="store_true", help="JSON instead of tables")
    chosen = parser.parse_args()
    # What is raised for a while, and namespaces, are put back and removed by whoever made them.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    results = {name: SUITES[name][1](chosen.rounds) for name in chosen.suites or SUITES}
    if chosen.json:
        print(json.dumps(results, indent=2))
        return
    for name, rows in results.items():
        console().print(table(rows, SUITES[name][0]))


if __name__ == "__main__":
    main()
