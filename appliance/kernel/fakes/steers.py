"""The fake of steers: a way goes with its device, and what drops in its place stays."""

from __future__ import annotations

from dataclasses import replace
from errno import ENODEV, EOPNOTSUPP

from appliance.kernel.fakes.world import FakePort
from appliance.kernel.steers import nowhere, version_of
from appliance.model.errors import KernelError
from appliance.model.facts import Steer


class FakeSteers(FakePort[Steer]):
    """Steers in memory."""

    reason = "steer"

    def read(self) -> frozenset[Steer]:
        """Return ours; those whose device is gone lead nowhere."""
        for key, steer in self.world.steers.items():
            if not self.world.has_device(steer.ns, steer.hop.link):
                self.world.steers[key] = replace(steer, hop=nowhere(version_of(steer)))
        return frozenset(self.world.steers.values())

    def _put(self, fact: Steer) -> None:
        code = EOPNOTSUPP if fact.hop.decapsulate is not None else 0
        if not self.world.exists(fact.ns):
            code = ENODEV
        elif not code:
            self.world.steers[fact.key] = fact
            code = 0 if self.world.has_device(fact.ns, fact.hop.link) else ENODEV
        if code:
            raise KernelError(self.reason, f"{fact.ns} steer {fact.number}", code)

    def _drop(self, fact: Steer) -> None:
        self.world.steers.pop(fact.key, None)
