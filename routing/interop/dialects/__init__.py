"""The routers whose language we write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from routing.interop.dialects import bird, edgeway, frr, gobgp, openbgpd
from routing.interop.dialects.dialect import Dialect

DIALECTS: Final[Mapping[str, Dialect]] = {
    dialect.name: dialect for dialect in (edgeway.DIALECT, bird.DIALECT, frr.DIALECT, openbgpd.DIALECT, gobgp.DIALECT)
}
