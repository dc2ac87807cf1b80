"""bootcmd and runcmd as shell scripts. Pure; called by `appliance.box.cloud_config`.

A command that fails is told and the next one runs, as everywhere else where seeds are read.
"""

from __future__ import annotations

import shlex
from typing import Any

from appliance.box.reader import Reader
from appliance.model.text import Path

_HEAD = "#!/bin/sh\n# Made from the seed.\n"


def read(reader: Reader, value: Any, path: Path) -> str:
    """Return a script, or nothing when there is no command: a text is the shell's, a list is one command's words."""
    lines = [line for at, item in reader.items(value, path) if (line := _line(reader, item, at))]
    return _HEAD + "".join(lines) if lines else ""


def _line(reader: Reader, item: Any, path: Path) -> str:
    """Return a command with its complaint; each text runs in a shell of its own, so that `exit` ends only that one."""
    if isinstance(item, str) and item.strip() and "\0" not in item:
        words = ["/bin/sh", "-c", item]
    elif isinstance(item, list) and item and all(isinstance(word, str | int | float) for word in item):
        words = [str(word).lower() if isinstance(word, bool) else str(word) for word in item]
    elif item is None:
        return ""
    else:
        reader.wrong(path, "must be a command: a text for the shell, or a list of words")
        return ""
    shown = shlex.quote(f"{path[0]}: command {int(path[-1]) + 1} failed")
    return f"{shlex.join(words)} || echo {shown}: $?\n"
