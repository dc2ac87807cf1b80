"""What ports of tc programs share; the rest of it is shown by the contracts of `compose` and `wires`."""

from __future__ import annotations

import os
from pathlib import Path

from appliance.kernel.tc_port import build


def test_a_build_is_told_from_another_and_from_none(tmp_path: Path) -> None:
    """By what stands in the file, also when it is built again under the same name."""
    path = tmp_path / "x.bpf.o"
    assert build(path) == bytes(12)
    path.write_bytes(b"one")
    first = build(path)
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert len({bytes(12), first, build(path)}) == 3
