"""The image that is judged: build/image/, made when the first test asks for it; EDGEWAY_IMAGE_DIR names another one.

Building takes minutes the first time and a second when nothing changed. `EDGEWAY_IMAGE=all` (`make image-test`) runs
everything; otherwise tests that cost more than a minute are left out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from images.place import BUILD, ROOT


@pytest.fixture(scope="session")
def image() -> Path:
    """Return the directory with the artefacts, after making what is not up to date."""
    if elsewhere := os.environ.get("EDGEWAY_IMAGE_DIR"):
        return Path(elsewhere)
    done = subprocess.run(
        [sys.executable, "-m", "images", "image"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return BUILD / "image"
