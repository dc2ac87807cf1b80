"""The zone of labs/az as tests drive it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from appliance.panel.lab import runner
from tests.lab.driving import ROOT, Echo, Flow, Lab, inside

__all__ = ["OURS", "ROOT", "TOPOLOGY", "Echo", "Flow", "Zone", "inside"]

TOPOLOGY = ROOT / "labs" / "az" / "az.clab.yml"
OURS = ("rs1", "rs2", "h1", "h2", "gw1", "gw2")


class Zone(Lab):
    """The running lab. Whoever damages it says so, and whoever needs it next has it made whole."""

    #: There is one zone, so this is of the class.
    damaged = False

    def __init__(self) -> None:
        """Drive the zone."""
        super().__init__(TOPOLOGY, OURS)

    def mend(self) -> None:
        """Bring it up again if it was damaged: seldom, because that takes longer than most tests."""
        if Zone.damaged:
            runner.up(TOPOLOGY)
            self.green(within=240)
            Zone.damaged = False

    def processes(self, node: str) -> dict[int, str]:
        """Return pid (as this machine sees it) and command line with environment of every process but the node's pid 1."""
        root = self.pid(node)
        space = Path(f"/proc/{root}/ns/pid").readlink()
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != root:
                with suppress(OSError):
                    if (entry / "ns/pid").readlink() == space:
                        line = (entry / "cmdline").read_text() + (entry / "environ").read_text()
                        found[int(entry.name)] = line.replace("\0", " ").strip()
        return found
