"""What is in the slots, and which one GRUB starts next."""

from __future__ import annotations

import pytest

from appliance.box.slots import Slot, next_slot, proof, running_slot, slots

FRESH = {"ORDER": "A B", "A_OK": "1", "A_TRY": "0", "B_OK": "0", "B_TRY": "0", "PROVEN": "A"}
STATUS = """
[slot.rootfs.1]
bundle.compatible=edgeway
bundle.version=0.2.0
installed.timestamp=2026-11-21T23:00:00Z
installed.count=1
status=ok
"""


@pytest.mark.parametrize(
    ("line", "letter"),
    [
        ("quiet edgeway.slot=a edgeway.root=PARTLABEL=root-a", "a"),
        ("edgeway.slot=b", "b"),
        ("edgeway.root=/dev/vda", None),
        ("edgeway.slot=c", None),
        ("", None),
    ],
)
def test_the_kernel_is_told_which_slot_runs(line: str, letter: str | None) -> None:
    """A container and a bare squashfs have none."""
    assert running_slot(line) == letter


def test_a_fresh_disk_has_one_good_slot() -> None:
    """And nothing in the other."""
    assert slots(FRESH, "", "edgeway.slot=a") == (
        Slot("a", running=True, next=True, proven=True, good=True, tries=0, version="", written=""),
        Slot("b", running=False, next=False, proven=False, good=False, tries=0, version="", written=""),
    )


def test_an_update_is_next_until_it_is_proven() -> None:
    """Its version and when it was written are RAUC's."""
    updated = FRESH | {"ORDER": "B A", "B_OK": "1"}
    _, new = slots(updated, STATUS, "edgeway.slot=a")
    assert (new.next, new.proven, new.version, new.written) == (True, False, "0.2.0", "2026-11-21T23:00:00Z")
    _, proven = slots(updated | proof("b"), STATUS, "edgeway.slot=b")
    assert (proven.running, proven.proven, proven.tries) == (True, True, 0)


@pytest.mark.parametrize(
    ("changed", "coming"),
    [
        ({}, "a"),
        ({"A_TRY": "1"}, "a"),
        ({"A_TRY": "2"}, "a"),
        ({"A_TRY": "3"}, None),
        ({"A_TRY": "3", "B_OK": "1"}, "b"),
        ({"ORDER": "B A", "B_OK": "1"}, "b"),
        ({"ORDER": "B A", "B_OK": "1", "B_TRY": "1"}, "a"),
        ({"ORDER": "B A"}, "a"),
        ({"A_OK": "0"}, None),
    ],
)
def test_a_new_slot_has_one_try_and_a_proven_one_three(changed: dict[str, str], coming: str | None) -> None:
    """A power cut during a start is not taken for a failure of what was good."""
    assert next_slot(FRESH | changed) == coming


def test_a_proof_forgives_earlier_tries() -> None:
    """It is what every start ends with."""
    assert next_slot(FRESH | {"A_TRY": "3"} | proof("a")) == "a"
