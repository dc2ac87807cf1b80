"""The port of `Compose` facts: a tc program on the ingress of a device, its configuration and members in maps.

Nothing is pinned: the program is found by the hook it hangs on, its maps by the program, so a restarted daemon finds
everything where it left it and changes members in place. A program made from another source (its tag differs) is
replaced in one step, traffic goes on. The value sizes of the maps are checked before they are believed.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path
from typing import Final

from appliance.kernel import libbpf
from appliance.kernel.compose_table import SLOTS, slots
from appliance.kernel.namespaces import Namespaces
from appliance.kernel.port import Failure
from appliance.kernel.watching import LINK, watch_route
from appliance.model.errors import KernelError
from appliance.model.facts import HOST, Compose
from appliance.state.diff import Plan

OBJECT: Final = Path(__file__).parent / "bpf" / "compose.bpf.o"
PROGRAM: Final = "ew_compose"
CONFIG, MEMBERS = "ew_config", "ew_members"
_CONFIG = struct.Struct("16s16s")
_SLOTS = struct.Struct(f"={SLOTS}H")
_ZERO = struct.pack("=I", 0)


class ComposePort:
    """Composing devices of a node; only the node's own namespace has them."""

    def __init__(self, namespaces: Namespaces, path: Path = OBJECT) -> None:
        """`path` is the compiled program."""
        self._namespaces, self._path = namespaces, path

    def read(self) -> frozenset[Compose]:
        """Return what hangs on devices now."""
        found = []
        with self._namespaces.in_namespace(HOST):
            for index, name in socket.if_nameindex():
                fact = self._read_one(index, name)
                if fact is not None:
                    found.append(fact)
        return frozenset(found)

    def apply(self, plan: Plan[Compose]) -> tuple[Failure, ...]:
        """Attach, change or take off."""
        failures = []
        with self._namespaces.in_namespace(HOST):
            for change in plan.changes:
                try:
                    self._apply_one(change.old, change.new)
                except OSError as error:
                    failures.append(Failure(change.fact, KernelError("compose", change.fact.link, error.errno or 5)))
        return tuple(failures)

    def watch(self) -> AsyncIterator[str]:
        """Yield when devices change: a device that is made anew has lost its program."""
        return watch_route(self._namespaces, (LINK,), "link")

    def close(self) -> None:
        """Nothing is held."""

    def _read_one(self, index: int, name: str) -> Compose | None:
        with self._program(index) as maps:
            if maps is None:
                return None
            value = libbpf.lookup(maps[CONFIG], _ZERO, _CONFIG.size)
            source, prefix = _CONFIG.unpack(value or bytes(_CONFIG.size))
            members = []
            for key in sorted(libbpf.keys(maps[MEMBERS], 4)):
                row = libbpf.lookup(maps[MEMBERS], key, _SLOTS.size)
                if row is not None:
                    members.append((IPv4Address(key), tuple(sorted(set(_SLOTS.unpack(row))))))
            return Compose(HOST, name, IPv6Address(source), IPv6Network((prefix, 48)), tuple(members))

    @contextmanager
    def _program(self, index: int) -> Iterator[dict[str, int] | None]:
        """Give the maps of our program on a device, None where there is none of ours."""
        descriptor = libbpf.attached(index)
        if descriptor is None:
            yield None
            return
        maps: dict[str, int] = {}
        try:
            if libbpf.program_info(descriptor)[0] == PROGRAM:
                maps = libbpf.maps(descriptor)
            yield maps if _fits(maps) else None
        finally:
            for each in (descriptor, *maps.values()):
                os.close(each)

    def _apply_one(self, old: Compose | None, new: Compose | None) -> None:
        link = (new or old).link  # type: ignore[union-attr] # a change has one side
        if new is None:
            with suppress(OSError):
                libbpf.detach(socket.if_nametoindex(link))
            return
        index = socket.if_nametoindex(link)
        if old is None or not self._current(index):
            self._attach(index, new)
            return
        with self._program(index) as maps:
            if maps is not None:
                _fill(maps, new)

    def _current(self, index: int) -> bool:
        descriptor = libbpf.attached(index)
        if descriptor is None:
            return False
        os.close(descriptor)
        return True

    def _attach(self, index: int, fact: Compose) -> None:
        """Load, fill, then attach: no packet meets a program without configuration."""
        if not self._path.exists():
            raise FileNotFoundError(2, f"{self._path} is not built: run `make setup`")
        handle, program = libbpf.load(self._path, PROGRAM)
        try:
            maps = libbpf.maps(program)
            try:
                _fill(maps, fact)
                libbpf.attach(index, program)
            finally:
                for each in maps.values():
                    os.close(each)
        finally:
            libbpf.close(handle)


def _fits(maps: dict[str, int]) -> bool:
    sizes = {name: libbpf.value_size(descriptor) for name, descriptor in maps.items()}
    return sizes.get(CONFIG) == _CONFIG.size and sizes.get(MEMBERS) == _SLOTS.size


def _fill(maps: dict[str, int], fact: Compose) -> None:
    """Write configuration and members; what is no member any more goes last."""
    libbpf.update(maps[CONFIG], _ZERO, _CONFIG.pack(fact.source.packed, fact.prefix.network_address.packed))
    wanted = {address.packed: _SLOTS.pack(*slots(address, ids)) for address, ids in fact.members if ids}
    for key, value in wanted.items():
        libbpf.update(maps[MEMBERS], key, value)
    for key in list(libbpf.keys(maps[MEMBERS], 4)):
        if key not in wanted:
            libbpf.delete(maps[MEMBERS], key)

