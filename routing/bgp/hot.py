"""What the route server does for every prefix and every message, in the quickest form there is (design note 0008).

The C form is built by `make setup` and carried by the wheel where a compiler is; without it, or with EDGEWAY_PURE=1 in
the environment, this is the reference in Python. Both behave the same and pass the same tests.
"""

from __future__ import annotations

import os

from routing.bgp.encode import end_of_rib

COMPILED = os.environ.get("EDGEWAY_PURE") != "1"

if COMPILED:
    try:
        from routing.bgp._hot import (
            PrefixFilter,
            PrefixTable,
            announce,
            count,
            cut,
            lift,
            normal,
            scan,
            split,
            weigh,
            withdraw,
        )
    except ImportError:
        COMPILED = False

if not COMPILED:
    from routing.bgp.encode import announce, withdraw
    from routing.bgp.nlri import PrefixFilter, count, cut, normal
    from routing.bgp.scan import lift, scan, split
    from routing.bgp.table import PrefixTable
    from routing.bgp.weigh import weigh

__all__ = [
    "COMPILED",
    "PrefixFilter",
    "PrefixTable",
    "announce",
    "count",
    "cut",
    "end_of_rib",
    "lift",
    "normal",
    "scan",
    "split",
    "weigh",
    "withdraw",
]
