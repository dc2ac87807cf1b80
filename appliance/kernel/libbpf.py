"""libbpf by ctypes: load an object, attach it to a tc hook, find what is attached, read and write maps.

Only what `appliance.kernel.compose` needs. Calls answer with an errno in OSError.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p, sizeof
from functools import cache
from pathlib import Path
from typing import Any, Final

INGRESS: Final = 1
REPLACE: Final = 1
HANDLE, PRIORITY = 1, 1
_NAME, _TAG, _INFO = 16, 8, 256


class _Hook(Structure):
    _fields_ = (("sz", c_size_t), ("ifindex", c_int), ("attach_point", c_int), ("parent", c_uint32))


class _Options(Structure):
    _fields_ = (
        ("sz", c_size_t),
        ("prog_fd", c_int),
        ("flags", c_uint32),
        ("prog_id", c_uint32),
        ("handle", c_uint32),
        ("priority", c_uint32),
    )


class ProgramInfo(Structure):
    """The head of struct bpf_prog_info (linux/bpf.h)."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("tag", ctypes.c_ubyte * _TAG),
        ("jited_prog_len", c_uint32),
        ("xlated_prog_len", c_uint32),
        ("jited_prog_insns", c_uint64),
        ("xlated_prog_insns", c_uint64),
        ("load_time", c_uint64),
        ("created_by_uid", c_uint32),
        ("nr_map_ids", c_uint32),
        ("map_ids", c_uint64),
        ("name", ctypes.c_char * _NAME),
    )


class MapInfo(Structure):
    """The head of struct bpf_map_info (linux/bpf.h)."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("name", ctypes.c_char * _NAME),
    )


@cache
def library() -> Any:
    """Return libbpf, quiet."""
    lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
    lib.bpf_object__open_file.restype = c_void_p
    lib.bpf_object__open_file.argtypes = (c_char_p, c_void_p)
    lib.bpf_object__load.argtypes = (c_void_p,)
    lib.bpf_object__close.argtypes = (c_void_p,)
    lib.bpf_object__find_program_by_name.restype = c_void_p
    lib.bpf_object__find_program_by_name.argtypes = (c_void_p, c_char_p)
    lib.bpf_program__fd.argtypes = (c_void_p,)
    for name in ("bpf_tc_hook_create",):
        getattr(lib, name).argtypes = (POINTER(_Hook),)
    for name in ("bpf_tc_attach", "bpf_tc_detach", "bpf_tc_query"):
        getattr(lib, name).argtypes = (POINTER(_Hook), POINTER(_Options))
    for name in ("bpf_map_lookup_elem", "bpf_map_get_next_key"):
        getattr(lib, name).argtypes = (c_int, c_void_p, c_void_p)
    lib.bpf_map_update_elem.argtypes = (c_int, c_void_p, c_void_p, c_uint64)
    lib.bpf_map_delete_elem.argtypes = (c_int, c_void_p)
    lib.bpf_obj_get_info_by_fd.argtypes = (c_int, c_void_p, POINTER(c_uint32))
    lib.libbpf_set_print.argtypes = (c_void_p,)
    lib.libbpf_set_print(None)
    return lib


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno() or -result
        raise OSError(number, os.strerror(number))
    return result


def load(path: Path, program: str) -> tuple[c_void_p, int]:
    """Load an object file; return it (to be closed) and the descriptor of one of its programs."""
    lib = library()
    made = lib.bpf_object__open_file(str(path).encode(), None)
    if not made:
        raise OSError(ctypes.get_errno(), f"cannot open {path}")
    handle = c_void_p(made)
    try:
        _checked(lib.bpf_object__load(handle))
        found = lib.bpf_object__find_program_by_name(handle, program.encode())
        if not found:
            raise OSError(errno.ENOENT, f"{path} has no program {program}")
        return handle, _checked(lib.bpf_program__fd(c_void_p(found)))
    except OSError:
        lib.bpf_object__close(handle)
        raise


def close(handle: c_void_p) -> None:
    """Let go of an object; what is attached stays."""
    library().bpf_object__close(handle)


def _hook(ifindex: int) -> _Hook:
    return _Hook(sizeof(_Hook), ifindex, INGRESS, 0)


def attach(ifindex: int, program: int) -> None:
    """Put a program on the ingress hook of a device of this thread's namespace, in place of the one there."""
    lib, hook = library(), _hook(ifindex)
    made = lib.bpf_tc_hook_create(byref(hook))
    if made not in (0, -errno.EEXIST):
        _checked(made)
    options = _Options(sizeof(_Options), program, REPLACE, 0, HANDLE, PRIORITY)
    _checked(lib.bpf_tc_attach(byref(hook), byref(options)))


def detach(ifindex: int) -> None:
    """Take our program off; nothing there is fine."""
    options = _Options(sizeof(_Options), 0, 0, 0, HANDLE, PRIORITY)
    result = library().bpf_tc_detach(byref(_hook(ifindex)), byref(options))
    if result not in (0, -errno.ENOENT, -errno.EINVAL):
        _checked(result)


def attached(ifindex: int) -> int | None:
    """Return a descriptor (to be closed) of the program on the hook, None if there is none."""
    options = _Options(sizeof(_Options), 0, 0, 0, HANDLE, PRIORITY)
    if library().bpf_tc_query(byref(_hook(ifindex)), byref(options)) < 0 or not options.prog_id:
        return None
    return _checked(library().bpf_prog_get_fd_by_id(options.prog_id))


def _info(descriptor: int, structure: Structure) -> None:
    space = ctypes.create_string_buffer(_INFO)
    ctypes.memmove(space, byref(structure), sizeof(structure))
    length = c_uint32(_INFO)
    _checked(library().bpf_obj_get_info_by_fd(descriptor, space, byref(length)))
    ctypes.memmove(byref(structure), space, sizeof(structure))


def program_info(descriptor: int) -> tuple[str, bytes]:
    """Return name and tag (a digest of the instructions) of a program."""
    info = ProgramInfo()
    _info(descriptor, info)
    return info.name.decode(), bytes(info.tag)


def maps(descriptor: int) -> dict[str, int]:
    """Return descriptors (to be closed) of the maps that a program uses, by name."""
    info = ProgramInfo()
    ids = (c_uint32 * 16)()
    info.nr_map_ids, info.map_ids = 16, ctypes.addressof(ids)
    _info(descriptor, info)
    found = {}
    for number in ids[: info.nr_map_ids]:
        each = _checked(library().bpf_map_get_fd_by_id(number))
        about = MapInfo()
        _info(each, about)
        found[about.name.decode()] = each
    return found


def value_size(descriptor: int) -> int:
    """Return the size of a map's values, octets."""
    about = MapInfo()
    _info(descriptor, about)
    return int(about.value_size)


def keys(descriptor: int, size: int) -> Iterator[bytes]:
    """Yield the keys of a map."""
    key, following = None, ctypes.create_string_buffer(size)
    while library().bpf_map_get_next_key(descriptor, key, following) == 0:
        yield following.raw
        key = ctypes.create_string_buffer(following.raw, size)


def lookup(descriptor: int, key: bytes, size: int) -> bytes | None:
    """Return the value of a key."""
    value = ctypes.create_string_buffer(size)
    found = library().bpf_map_lookup_elem(descriptor, ctypes.create_string_buffer(key, len(key)), value)
    return value.raw if found == 0 else None


def update(descriptor: int, key: bytes, value: bytes) -> None:
    """Write a value."""
    lib = library()
    _checked(lib.bpf_map_update_elem(descriptor, key, value, 0))


def delete(descriptor: int, key: bytes) -> None:
    """Delete a key; absent is fine."""
    library().bpf_map_delete_elem(descriptor, key)
