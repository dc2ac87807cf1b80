"""Programs and maps of this kernel through libbpf."""

from __future__ import annotations

from errno import EINVAL, ENOENT
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.kernel.compose import MEMBERS, OBJECT, PROGRAM
from appliance.kernel.libbpf import Map, Program

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel


@pytest.fixture
def program() -> Iterator[Program]:
    """Load our program."""
    with Program.load(OBJECT, PROGRAM) as loaded:
        yield loaded


@pytest.fixture
def held(program: Program) -> Map:
    """Give a hash map."""
    return program.maps[MEMBERS]


def test_what_is_written_is_read(held: Map) -> None:
    """Values are replaced, keys are all given, and deleting the absent succeeds."""
    keys = {bytes([0, 0, 0, number]) for number in range(10)}
    for key in keys:
        held.update(key, key * (held.value_size // 4))
    assert set(held) == keys
    held.update(b"\0\0\0\1", bytes(held.value_size))
    assert held.lookup(b"\0\0\0\1") == bytes(held.value_size)
    held.delete(b"\0\0\0\1")
    held.delete(b"\0\0\0\1")
    assert held.lookup(b"\0\0\0\1") is None
    assert set(held) == keys - {b"\0\0\0\1"}


def test_a_value_of_another_size_is_refused(held: Map) -> None:
    """The kernel would read behind its end."""
    for key, value in ((bytes(4), bytes(8)), (bytes(3), bytes(held.value_size))):
        with pytest.raises(OSError, match="octets") as caught:
            held.update(key, value)
        assert caught.value.errno == EINVAL


def test_a_program_is_found_by_its_id_with_its_maps(program: Program) -> None:
    """As a restarted process finds what hangs on a hook."""
    program.maps[MEMBERS].update(bytes(4), bytes(program.maps[MEMBERS].value_size))
    with Program.by_id(program.id) as again:
        assert (again.name, again.tag, again.maps.keys()) == (program.name, program.tag, program.maps.keys())
        assert list(again.maps[MEMBERS]) == [bytes(4)]


def test_descriptors_are_closed(program: Program) -> None:
    """A daemon looks at programs for months."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with Program.by_id(program.id):
            pass
        with Program.load(OBJECT, PROGRAM):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    """An absent file, a file that is no object, an object without the program."""
    with pytest.raises(OSError, match=r"none\.o"):
        Program.load(tmp_path / "none.o", PROGRAM)
    broken = tmp_path / "broken.o"
    broken.write_bytes(b"\x7fELF")
    with pytest.raises(OSError, match=r"broken\.o"):
        Program.load(broken, PROGRAM)
    with pytest.raises(OSError, match="no program") as caught:
        Program.load(OBJECT, "other")
    assert caught.value.errno == ENOENT
