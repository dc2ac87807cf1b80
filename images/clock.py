"""The only time that a build knows: SOURCE_DATE_EPOCH, or the date of the last commit.

Everything that is built carries this date, so that building it again gives the same octets.
https://reproducible-builds.org/docs/source-date-epoch/
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from images.place import ROOT


def epoch(*paths: str, root: Path = ROOT, environ: Mapping[str, str] = os.environ) -> int:
    """Return the seconds since 1970 of the last commit that touched the paths (of the last one, if none are given)."""
    if told := environ.get("SOURCE_DATE_EPOCH"):
        return int(told)
    command = ["git", "-C", str(root), "log", "-1", "--format=%ct", "--", *paths]
    try:
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise SystemExit(
            "there is no commit to take the date from: set SOURCE_DATE_EPOCH to seconds since 1970"
        ) from error
