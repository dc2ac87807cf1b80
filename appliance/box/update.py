"""Write an update into the slot that does not run, and say that the one that runs is good (design 0009). Thin: RAUC does the work.

Called by `edgeway box update | slots | prove`. What RAUC says when it refuses a bundle (another signature, another kind of
machine, too large) is the operator's business and told in its words.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from appliance.box import grubenv, slots
from appliance.model.errors import InternalError, OperatorError

ENVIRONMENT: Final = Path("/boot/efi/grub/grubenv")
STATUS: Final = Path("/data/rauc/status")
_COMMAND_LINE: Final = Path("/proc/cmdline")
_NOT_HERE: Final = "updates are for a box that was started from its disk"


def command_line() -> str:
    """Return what the kernel was started with."""
    return _COMMAND_LINE.read_text(encoding="utf-8")


def here() -> slots.Letter:
    """Return the slot that runs; OperatorError where there are no slots: a container, a bare squashfs."""
    letter = slots.running_slot(command_line())
    if letter is None:
        raise OperatorError.of("this machine runs from no slot", _NOT_HERE)
    return letter


def look() -> tuple[slots.Slot, ...]:
    """Return both slots."""
    here()
    status = STATUS.read_text(encoding="utf-8") if STATUS.exists() else ""
    return slots.slots(grubenv.read(ENVIRONMENT), status, command_line())


def judged(bundle: Path) -> dict[str, Any]:
    """Return what a bundle says of itself, after its signature was checked."""
    if not bundle.is_file():
        raise OperatorError.of(f"{bundle}: there is no such file", "give the path of a bundle (.raucb)")
    done = _rauc("info", "--output-format=json", str(bundle))
    if done.returncode:
        raise OperatorError.of(f"{bundle} is refused: {_reason(done.stderr)}", "bundles are made by `make bundle`")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def install(bundle: Path, progress: Callable[[str], None]) -> None:
    """Write a bundle into the other slot and make it the next one; `progress` is told each step of RAUC."""
    with subprocess.Popen(
        ["rauc", "install", str(bundle)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        if process.stdout is None:
            raise InternalError("RAUC has no output")
        said = []
        for line in process.stdout:
            said.append(line.strip())
            progress(said[-1])
    if process.returncode:
        raise OperatorError.of(
            f"{bundle} was not installed: {_reason(chr(10).join(said))}",
            "the slot that runs is untouched and stays the next one; `journalctl -u rauc` has more",
        )


def prove() -> slots.Letter:
    """Say that the slot that runs is good: it is the one that GRUB comes back to."""
    letter = here()
    grubenv.change(ENVIRONMENT, slots.proof(letter))
    return letter


def reboot() -> None:
    """Start the machine anew, in order."""
    # Not `systemctl reboot`: it asks logind first, which a box does without, and complains.
    words = ["systemctl", "start", "--no-block", "--job-mode=replace-irreversibly", "reboot.target"]
    subprocess.run(words, check=True)


def _rauc(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["rauc", *words], capture_output=True, text=True, check=False)


def _reason(said: str) -> str:
    """Pick the line that says why: RAUC's last one that is no progress."""
    lines = [line for line in said.splitlines() if line and "%" not in line[:5]]
    return lines[-1] if lines else "RAUC does not say why"
