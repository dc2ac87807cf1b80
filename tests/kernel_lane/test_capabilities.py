"""What `edgeway show capabilities` says of the image's kernel; the other files here try each of it with packets."""

from __future__ import annotations

import os
from pathlib import Path

from appliance.kernel import probe


def test_the_kernel_of_the_image_has_everything_that_edgeway_can_use() -> None:
    """So nothing takes a way around there."""
    assert {row["name"]: row["detail"] for row in probe.capabilities() if not row["present"]} == {}


def test_the_modules_of_the_image_are_those_of_its_kernel() -> None:
    """Or nothing that is a module would be there."""
    assert [path.name for path in Path("/usr/lib/modules").iterdir()] == [os.uname().release]
