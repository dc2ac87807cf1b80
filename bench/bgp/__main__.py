"""`python -m bench.bgp SUITE [--by NAMES] [--scale X] [--rounds N]`: one suite, smaller, or with fewer servers."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable

from appliance.panel.tables import console, table
from bench.bgp import delay, many, reload, routes, verify
from bench.bgp.duts import everybody
from bench.compare import Rows

SUITES: dict[str, Callable[..., Rows]] = {
    "routes": routes.run,
    "many": many.run,
    "delay": delay.run,
    "reload": reload.run,
    "verify": verify.run,
}


def main() -> None:
    """Run a suite and print its rows."""
    parser = argparse.ArgumentParser(prog="bench.bgp", description=__doc__)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0, help="of the tables' length")
    parser.add_argument("--by", default="", help="only servers whose name holds one of these words")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    words = chosen.by.lower().split(",")
    duts = [dut for dut in everybody() if any(word in dut.name.lower() for word in words)]
    rows = SUITES[chosen.suite](chosen.rounds, duts, chosen.scale)
    if chosen.json:
        print(json.dumps(rows, indent=2))
    else:
        console().print(table(rows, chosen.suite))


if __name__ == "__main__":
    main()
