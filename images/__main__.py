"""`python -m images deb | image | bundle [OPTIONS]`: builds into build/ (design 0009). `make` has the same words."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

#: Each module has `main(arguments)`, which parses its own options and returns an exit code.
COMMANDS: Final = {"deb": "images.deb", "image": "images.image", "bundle": "images.bundle"}


def main() -> int:
    """Run the command that is named."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:  # noqa: PLR2004 - a program and a word
        print(__doc__, file=sys.stderr)
        return 2
    result: int = import_module(COMMANDS[sys.argv[1]]).main(sys.argv[2:])
    return result


if __name__ == "__main__":
    sys.exit(main())
