"""The port of `Wire` facts: the tc program of `bpf/wire.bpf.c` on the ingress of a device, its values in a map.

As with `compose`: nothing is pinned, the program is found by the name of its filter and its map by the program, so a
restarted daemon finds everything where it left it. Another value, and a program built from other sources than ours, is
a new program that is filled first and then takes the place of the old one in one step: a frame sees the one or the
other, and none goes by without.

What carries our name and is not believed (`Program` of another layout or build, or a target that is gone) is read as a
fact with a mark that no fact has, so that it differs from whatever is desired.
"""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.kernel import tc
from appliance.kernel.compose import build
from appliance.kernel.libbpf import Program
from appliance.kernel.netlink import NETLINK_ROUTE, Netlink
from appliance.kernel.port import Failure
from appliance.kernel.watching import LINK, watch_route
from appliance.model.errors import KernelError
from appliance.model.facts import HOST, Namespace, Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from appliance.kernel.namespaces import Namespaces
    from appliance.state.diff import Plan

OBJECT: Final = Path(__file__).parent / "bpf" / "wire.bpf.o"
#: Name of the filter, and of the function in the object; the kernel keeps 15 octets of a map's name.
FILTER, PROGRAM = "ew-wire", "ew_wire"
CONFIG: Final = "ew_wire_config"
#: Raised with every change of the layout of `struct config`.
SCHEMA: Final = 1
_CONFIG: Final = struct.Struct("=I12sIII")
_FIRST: Final = bytes(4)
#: The mark of a fact that nobody wants.
UNKNOWN: Final = -1


class WiresPort:
    """Ports of inline edges of a node."""

    def __init__(self, namespaces: Namespaces, path: Path = OBJECT) -> None:
        """`path` is the compiled program."""
        self.namespaces, self._path = namespaces, path
        self._netlink = Netlink(namespaces, NETLINK_ROUTE, "wire")

    def read(self) -> frozenset[Wire]:
        """Return what hangs on devices now."""
        return frozenset(fact for ns in (HOST, *self.namespaces.names()) for fact in self._read_one(ns))

    def apply(self, plan: Plan[Wire]) -> tuple[Failure, ...]:
        """Attach, change or take off."""
        failures = []
        for change in plan.changes:
            fact = change.fact
            try:
                if change.new is None:
                    self._drop(fact)
                else:
                    self._put(change.new)
            except KernelError as error:
                failures.append(Failure(fact, error))
            except OSError as error:
                what = f"{fact.ns}/{fact.link}: {error.strerror or error}"
                failures.append(Failure(fact, KernelError("wire", what, error.errno or errno.EIO)))
        return tuple(failures)

    def watch(self) -> AsyncIterator[str]:
        """Yield when devices or filters change: a device that is made anew, or moves, has lost its program."""
        return watch_route(self.namespaces, (LINK, tc.TC), "wire")

    def close(self) -> None:
        """Nothing is held."""

    # -- inside -------------------------------------------------------------------------------------------------------

    def _read_one(self, ns: Namespace) -> list[Wire]:
        """Read one namespace."""
        found = []
        for hook in tc.hooks(self._netlink, ns, FILTER):
            with suppress(OSError):  # it went meanwhile
                with self.namespaces.in_namespace(ns):
                    link = socket.if_indextoname(hook.index)
                with Program.by_id(hook.program) as program:
                    found.append(self._fact(ns, link, program))
        return found

    def _fact(self, ns: Namespace, link: str, program: Program) -> Wire:
        """Return what a program does."""
        value = program.maps[CONFIG].lookup(_FIRST) if _fits(program) else None
        if value is not None:
            schema, made_from, mark, to, peer = _CONFIG.unpack(value)
            with suppress(OSError), self.namespaces.in_namespace(ns):
                if (schema, made_from) == (SCHEMA, build(self._path)):
                    return Wire(ns, link, mark, socket.if_indextoname(to) if to else None, bool(peer))
        return Wire(ns, link, UNKNOWN)

    def _index(self, ns: Namespace, link: str) -> int:
        """Return the index of a device; KernelError ENODEV if it is not there."""
        try:
            with self.namespaces.in_namespace(ns):
                return socket.if_nametoindex(link)
        except OSError as error:
            raise KernelError("wire", f"{ns}/{link}", errno.ENODEV) from error

    def _hook(self, ns: Namespace, index: int) -> tc.Hook | None:
        """Return what hangs on a device already."""
        return next((hook for hook in tc.hooks(self._netlink, ns, FILTER) if hook.index == index), None)

    def _drop(self, fact: Wire) -> None:
        """Take the program off; without device or program there is nothing to do."""
        try:
            hook = self._hook(fact.ns, self._index(fact.ns, fact.link))
        except KernelError as error:
            if error.errno == errno.ENODEV:
                return
            raise
        if hook is not None:
            tc.detach(self._netlink, fact.ns, hook)

    def _put(self, fact: Wire) -> None:
        """Fill a program and put it in the place of the old one."""
        index = self._index(fact.ns, fact.link)
        to = self._index(fact.ns, fact.to) if fact.to is not None else 0
        if not self._path.exists():
            raise KernelError("wire", f"{self._path} is not built: run `make setup`", errno.ENOENT)
        with Program.load(self._path, PROGRAM) as program:
            if not _fits(program):
                raise KernelError("wire", f"{self._path} has other maps: run `make setup`", errno.EINVAL)
            value = _CONFIG.pack(SCHEMA, build(self._path), fact.mark, to, int(fact.peer))
            program.maps[CONFIG].update(_FIRST, value)
            tc.attach(self._netlink, fact.ns, index, program.fd, FILTER, self._hook(fact.ns, index))


def _fits(program: Program) -> bool:
    """Tell whether the map has the sizes that we read and write."""
    config = program.maps.get(CONFIG)
    return config is not None and (config.key_size, config.value_size) == (len(_FIRST), _CONFIG.size)
