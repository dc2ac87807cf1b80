"""Drained or not: an order of the operator that stands until it is taken back, or until the machine starts anew.

Called by `appliance.control.daemon`. It is no intent: a box that is drained before an update must serve after it. A daemon
that is started again in between must not serve, so the order is kept with the boot for which it was given.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from appliance.state.store import Store

KEY: Final = "drain"
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


class Drain:
    """The order, kept in the store."""

    def __init__(self, store: Store, boot: str = "") -> None:
        """`boot` names this start of the machine; by default as the kernel does."""
        self._store = store
        self._boot = boot or _BOOT.read_text(encoding="ascii").strip()

    @property
    def ordered(self) -> bool:
        """Whether this node is to be drained."""
        row = self._store.get(KEY)
        return row is not None and json.loads(row[0]) == self._boot

    def order(self, *, ordered: bool) -> None:
        """Give the order or take it back."""
        if ordered != self.ordered:
            self._store.put(KEY, json.dumps(self._boot if ordered else None))
