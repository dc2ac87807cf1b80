from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from appliance.model.errors import OperatorError
from routing.bgp.values import Family
from routing.interop.cases import chosen, world
from routing.interop.place import Place, inside

pytestmark = pytest.mark.kernel
WORLD = world(chosen(["sessions/open"]))


def descriptors() -> int:
    """Count what is open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def addresses(namespace: int) -> str:
    """Return the addresses of a namespace."""
    with inside(namespace):
        return subprocess.run(["ip", "-brief", "address"], capture_output=True, text=True, check=True).stdout


def test_members_reach_the_device_from_their_addresses() -> None:
    """Over either family, at once: nobody waits for duplicate address detection."""
    with Place(WORLD) as place:
        assert "192.0.2.1/24" in addresses(place.device)
        assert "2001:db8::b/64" in addresses(place.members)
        for family in Family:
            member = next(member for member in WORLD.members if member.family is family)
            with place.socket(family) as made:
                made.bind((str(member.address), 0))
                made.setblocking(True)
                with pytest.raises(ConnectionRefusedError):
                    made.connect((str(WORLD.addresses[family]), 179))


def test_nothing_of_it_is_left() -> None:
    """No name, no descriptor, and we are where we were."""
    before = Path("/proc/thread-self/ns/net").readlink(), descriptors()
    with Place(WORLD):
        pass
    assert (Path("/proc/thread-self/ns/net").readlink(), descriptors()) == before


def test_a_lan_that_cannot_be_made_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And half of it is let go of."""
    fake = tmp_path / "ip"
    fake.write_text("#!/bin/sh\necho no such thing >&2; exit 2\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    before = descriptors()
    with pytest.raises(OperatorError, match="no such thing"), Place(WORLD):
        pass
    assert descriptors() == before


def test_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is tried."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(OperatorError, match="run it as root"), Place(WORLD):
        pass
