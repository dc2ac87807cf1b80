"""`python3 -m appliance.box WORD`: what units of the image run, without the command line and what it imports."""

from __future__ import annotations

import sys


def main() -> None:
    """Do what the first word says."""
    match sys.argv[1:]:
        case ["first-boot"]:
            from appliance.box import first_boot  # noqa: PLC0415 - each word pays for itself only

            first_boot.main()
        case ["ready"]:
            from appliance.box import ready  # noqa: PLC0415

            ready.main()
        case _:
            sys.exit("usage: python3 -m appliance.box first-boot | ready")


if __name__ == "__main__":
    main()
