"""The line that says a box is ready, once, on its consoles. Quick to import: it is the last thing between power and use.

The unit runs this after `edgeway.service` has started, failed, or been passed over for want of an intent. A daemon that
failed is told too, and a child of ours waits for it: systemd starts it again, or somebody mends its intent.
"""

from __future__ import annotations

import os
import time

from appliance.box import ground

UNIT = "edgeway.service"
PAUSE = 2.0


def line(word: str, node: str, slot: str, version: str, up: float) -> str:
    """Return what the design promises to who watches a console."""
    return f"{word} node={node or '-'} slot={slot or '-'} version={version} up={up:.1f}s"


def slot(command_line: str) -> str:
    """Return the slot that the kernel's command line names; a box that was booted directly has none."""
    return next((word.partition("=")[2] for word in command_line.split() if word.startswith("edgeway.slot=")), "")


def version(home: str) -> str:
    """Return our version: what was installed beside our packages names it."""
    for name in os.listdir(home) if os.path.isdir(home) else ():  # noqa: PTH112, PTH208 - pathlib is slow to import
        if name.startswith("edgeway-") and name.endswith(".dist-info"):
            return name.removeprefix("edgeway-").removesuffix(".dist-info")
    from importlib.metadata import PackageNotFoundError  # noqa: PLC0415 - slow to import, and not needed in an image
    from importlib.metadata import version as installed  # noqa: PLC0415

    try:
        return installed("edgeway")
    except PackageNotFoundError:
        return "-"


def main(etc: str = "/etc/edgeway", proc: str = "/proc") -> None:
    """Tell that the box is ready, or that it is not and then that it is."""
    waits = os.access(f"{etc}/intent.yaml", os.F_OK)
    if waits and not _is_active():
        _tell("NOT READY", etc, proc)
        ground.tell(["the daemon does not start; `journalctl -u edgeway` says why"])
        if os.fork():
            return  # others wait for this unit
        while not _is_active():
            time.sleep(PAUSE)
    _tell("READY", etc, proc)


def _tell(word: str, etc: str, proc: str) -> None:
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
    node = _text(f"{etc}/node") if os.access(f"{etc}/intent.yaml", os.F_OK) else ""
    up = float(_text(f"{proc}/uptime").split()[0])
    ground.tell([line(word, node, slot(_text(f"{proc}/cmdline")), version(home), up)])


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError:
        return ""


def _is_active() -> bool:
    """Ask systemd: a start that has timed out leaves processes for a while."""
    words = ["systemctl", "--quiet", "is-active", UNIT]
    return os.waitpid(os.posix_spawnp(words[0], words, os.environ), 0)[1] == 0
