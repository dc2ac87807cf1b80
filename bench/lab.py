"""How long the zone of labs/az takes: to start, to converge, to go. Wall time, medians over rounds."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from appliance.panel.lab import runner
from appliance.panel.lab.observe import observe

TOPOLOGY = Path(__file__).resolve().parents[1] / "labs" / "az" / "az.clab.yml"
WITHIN = 300.0


def once() -> dict[str, float]:
    """Bring the zone up and down once; seconds of each phase."""
    begun = time.monotonic()
    runner.up(TOPOLOGY)
    started = time.monotonic()
    try:
        while not (report := observe(TOPOLOGY)).green:
            if time.monotonic() - started > WITHIN:
                raise TimeoutError(f"the zone did not converge: {report}")
            time.sleep(1.0)  # looking costs the zone what it converges with
        converged = time.monotonic()
    finally:
        ending = time.monotonic()
        runner.down(TOPOLOGY)
    return {"start": started - begun, "converge": converged - started, "down": time.monotonic() - ending}


def run(rounds: int = 3) -> list[dict[str, object]]:
    """Return a row per phase: median, least and most seconds."""
    seen = [once() for _ in range(rounds)]
    return [
        {
            "phase": phase,
            "median s": round(statistics.median(row[phase] for row in seen), 2),
            "least s": round(min(row[phase] for row in seen), 2),
            "most s": round(max(row[phase] for row in seen), 2),
        }
        for phase in seen[0]
    ]
