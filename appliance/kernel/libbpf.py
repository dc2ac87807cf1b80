"""libbpf by ctypes: load an object, find programs and maps by what uses them, read and write maps.

Only what `compose` needs; attaching is netlink and stands in `tc`. Calls that fail raise OSError. Descriptors belong to
`Program`, which closes them; what is attached stays in the kernel without them.
"""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_uint32, c_uint64, c_void_p, sizeof
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

#: Maps that a program may use at most.
_MAPS: Final = 16
#: More than any struct bpf_*_info of any kernel; what this one has not is left zero.
_INFO: Final = 512


class _ProgramInfo(Structure):
    """The head of struct bpf_prog_info (linux/bpf.h)."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("tag", ctypes.c_ubyte * 8),
        ("jited_prog_len", c_uint32),
        ("xlated_prog_len", c_uint32),
        ("jited_prog_insns", c_uint64),
        ("xlated_prog_insns", c_uint64),
        ("load_time", c_uint64),
        ("created_by_uid", c_uint32),
        ("nr_map_ids", c_uint32),
        ("map_ids", c_uint64),
        ("name", ctypes.c_char * 16),
    )


class _MapInfo(Structure):
    """The head of struct bpf_map_info (linux/bpf.h)."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("name", ctypes.c_char * 16),
    )


_SIGNATURES: Final[tuple[tuple[str, Any, tuple[Any, ...]], ...]] = (
    ("bpf_object__open_file", c_void_p, (c_char_p, c_void_p)),
    ("bpf_object__load", c_int, (c_void_p,)),
    ("bpf_object__close", None, (c_void_p,)),
    ("bpf_object__find_program_by_name", c_void_p, (c_void_p, c_char_p)),
    ("bpf_program__fd", c_int, (c_void_p,)),
    ("bpf_prog_get_fd_by_id", c_int, (c_uint32,)),
    ("bpf_map_get_fd_by_id", c_int, (c_uint32,)),
    ("bpf_map_lookup_elem", c_int, (c_int, c_void_p, c_void_p)),
    ("bpf_map_get_next_key", c_int, (c_int, c_void_p, c_void_p)),
    ("bpf_map_update_elem", c_int, (c_int, c_void_p, c_void_p, c_uint64)),
    ("bpf_map_delete_elem", c_int, (c_int, c_void_p)),
    ("bpf_obj_get_info_by_fd", c_int, (c_int, c_void_p, POINTER(c_uint32))),
    ("libbpf_set_print", c_void_p, (c_void_p,)),
)


class RunOptions(Structure):
    """struct bpf_test_run_opts (bpf/bpf.h)."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    )


@cache
def library() -> Any:
    """Return libbpf, told not to write to standard error."""
    lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
    for name, result, arguments in _SIGNATURES:
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.libbpf_set_print(None)
    return lib


def checked(result: int, what: str = "bpf") -> int:
    """Turn a negative result into OSError."""
    if result < 0:
        code = ctypes.get_errno() or -result
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


@dataclass(frozen=True, slots=True)
class Map:
    """A map that a program uses."""

    fd: int
    key_size: int
    value_size: int

    def __iter__(self) -> Iterator[bytes]:
        """Yield the keys; do not change the map meanwhile."""
        key, following = None, ctypes.create_string_buffer(self.key_size)
        while library().bpf_map_get_next_key(self.fd, key, following) == 0:
            yield following.raw
            key = ctypes.create_string_buffer(following.raw, self.key_size)

    def lookup(self, key: bytes) -> bytes | None:
        """Return the value of a key."""
        value = ctypes.create_string_buffer(self.value_size)
        found = library().bpf_map_lookup_elem(self.fd, self._sized(key, self.key_size), value)
        return value.raw if found == 0 else None

    def update(self, key: bytes, value: bytes) -> None:
        """Write a value: in a hash, whoever reads meanwhile sees the old one or the new one."""
        keyed, valued = self._sized(key, self.key_size), self._sized(value, self.value_size)
        checked(library().bpf_map_update_elem(self.fd, keyed, valued, 0), "map")

    def delete(self, key: bytes) -> None:
        """Delete a key; absent is fine."""
        library().bpf_map_delete_elem(self.fd, self._sized(key, self.key_size))

    @staticmethod
    def _sized(value: bytes, size: int) -> Any:
        """Make a buffer; a wrong size would have the kernel read or write beyond it."""
        if len(value) != size:
            raise OSError(errno.EINVAL, f"map: {len(value)} octets instead of {size}")
        return ctypes.create_string_buffer(value, size)


class Program:
    """A program in the kernel, with its maps by name. A context: its descriptors are closed at the end."""

    def __init__(self, fd: int) -> None:
        """Take over a descriptor of the program, and open its maps."""
        self.fd = fd
        self.maps: dict[str, Map] = {}
        numbers = (c_uint32 * _MAPS)()
        try:
            info = _read_info(fd, _ProgramInfo(nr_map_ids=_MAPS, map_ids=ctypes.addressof(numbers)))
            self.id, self.name, self.tag = int(info.id), info.name.decode(), bytes(info.tag)
            for number in numbers[: info.nr_map_ids]:
                opened = checked(library().bpf_map_get_fd_by_id(number), "map")
                self.maps[f"?{number}"] = Map(opened, 0, 0)  # closed at the end, whatever its name
                about = _read_info(opened, _MapInfo())
                del self.maps[f"?{number}"]
                self.maps[about.name.decode()] = Map(opened, int(about.key_size), int(about.value_size))
        except OSError:
            self.close()
            raise

    @classmethod
    def by_id(cls, number: int) -> Program:
        """Open a program that is in the kernel."""
        return cls(checked(library().bpf_prog_get_fd_by_id(number), "program"))

    @classmethod
    def load(cls, path: Path, name: str) -> Program:
        """Load an object file into the kernel; return one of its programs."""
        lib = library()
        opened = lib.bpf_object__open_file(os.fsencode(path), None)
        if not opened:
            raise OSError(ctypes.get_errno(), f"cannot open {path}")
        try:
            checked(lib.bpf_object__load(opened), f"load {path.name}")
            found = lib.bpf_object__find_program_by_name(opened, name.encode())
            if not found:
                raise OSError(errno.ENOENT, f"{path} has no program {name}")
            return cls(os.dup(checked(lib.bpf_program__fd(found))))
        finally:
            lib.bpf_object__close(opened)

    def close(self) -> None:
        """Close what is open."""
        for fd in (self.fd, *(each.fd for each in self.maps.values())):
            os.close(fd)
        self.maps = {}

    def __enter__(self) -> Self:
        """Be a context."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close at the end."""
        self.close()


def _read_info(fd: int, info: Any) -> Any:
    """Fill in a structure from what the kernel says about a descriptor."""
    space = ctypes.create_string_buffer(_INFO)
    ctypes.memmove(space, byref(info), sizeof(info))
    length = c_uint32(_INFO)
    checked(library().bpf_obj_get_info_by_fd(fd, space, byref(length)), "info")
    ctypes.memmove(byref(info), space, sizeof(info))
    return info
