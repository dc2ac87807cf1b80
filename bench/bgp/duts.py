"""Everybody who takes part, ours first; BIRD is what the others are held against."""

from __future__ import annotations

from bench.bgp.bird import Bird
from bench.bgp.dut import Dut
from bench.bgp.frr import Frr
from bench.bgp.gobgp import GoBgp
from bench.bgp.native import Native
from bench.bgp.openbgpd import OpenBgpd
from bench.compare import said

OURS, REFERENCE = Native.name, Bird.name


def everybody() -> list[Dut]:
    """Return those that this machine has."""
    found: list[Dut] = []
    for dut in (Native(), Bird(), Frr(), OpenBgpd(), GoBgp()):
        if dut.available():
            found.append(dut)
        else:
            said(f"{dut.name} is not there, so it is not compared")
    return found
