"""Write the table that up1 of labs/az announces: 10,000 IPv4 and 2,000 IPv6 prefixes as BIRD configuration, on stdout.

The same at every run; `make lab` puts it to labs/az/up1/feed.conf, where containerlab finds it too.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from routing.bgp.values import Family
from tests.support.feed import routes
from tests.support.routers.bird import statics
from tests.support.routers.common import Route, sequence

ASN = 65101


def without_own_as(route: Route) -> Route:
    """Leave the first AS to BIRD, which puts its own there."""
    path = sequence(*route.attributes.path_asns[1:])
    return replace(route, attributes=replace(route.attributes, as_path=path))


def main() -> None:
    """Write both families."""
    made = routes(10_000, Family.IPV4, ASN, IPv4Address("192.0.2.101"))
    made += routes(2_000, Family.IPV6, ASN, IPv6Address("2001:db8:ff::101"), seed=2)
    sys.stdout.write(statics(map(without_own_as, made)) + "\n")


if __name__ == "__main__":
    main()
