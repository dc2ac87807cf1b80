"""Variables in a topology file, replaced from the environment of whoever brings the lab up, as containerlab does it. Pure.

Called by `appliance.panel.lab.topology`, before anything is read. `$NAME` and `${NAME}` become the value of NAME and stay
as they are when there is none: they may be meant for a shell in a node. `${NAME:=text}` and `${NAME:-text}` have a
default, also for a value that is empty; `${NAME=text}` and `${NAME-text}` only for one that is not set.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_VARIABLE: Final = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?:(:?)[=-]([^{}\n]*))?\}|([A-Za-z_]\w*))")


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Replace every variable that has a value or a default."""

    def replaced(found: re.Match[str]) -> str:
        name, or_empty, default, bare = found.groups()
        value = environment.get(name or bare)
        if default is not None and (value is None or (or_empty and not value)):
            return str(default)
        return found[0] if value is None else value

    # A comment is no place for surprises, and a value with several lines would become part of the document.
    return "\n".join(
        line if line.lstrip().startswith("#") else _VARIABLE.sub(replaced, line) for line in text.split("\n")
    )
