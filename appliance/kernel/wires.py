"""The port of `Wire` facts: the tc program of `bpf/wire.bpf.c` on the ingress of a device, its values in a map.

As with `compose`: nothing is pinned, the program is found by the name of its filter and its map by the program, so a
restarted daemon finds everything where it left it. Another value, and a program built from other sources than ours, is
a new program that is filled first and then takes the place of the old one in one step: a frame sees the one or the
other, and none goes by without.

What carries our name and is not believed (`Program` of another layout or build, or a target that is gone) is read as a
fact with a mark that no fact has, so that it differs from whatever is desired.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.kernel import tc
from appliance.kernel.libbpf import Program
from appliance.kernel.tc_port import TcPort, build
from appliance.model.facts import Namespace, Wire

if TYPE_CHECKING:
    from appliance.kernel.namespaces import Namespaces

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


class WiresPort(TcPort[Wire]):
    """Ports of inline edges of a node."""

    def __init__(self, namespaces: Namespaces, path: Path = OBJECT) -> None:
        """`path` is the compiled program."""
        super().__init__(namespaces, "wire", FILTER, path)

    def _fact(self, ns: Namespace, link: str, program: Program) -> Wire:
        """Return what a program does."""
        value = program.maps[CONFIG].lookup(_FIRST) if _fits(program) else None
        if value is not None:
            schema, made_from, mark, to, peer = _CONFIG.unpack(value)
            with suppress(OSError), self.namespaces.in_namespace(ns):
                if (schema, made_from) == (SCHEMA, build(self._path)):
                    return Wire(ns, link, mark, socket.if_indextoname(to) if to else None, bool(peer))
        return Wire(ns, link, UNKNOWN)

    def _put(self, fact: Wire) -> None:
        """Fill a program and put it in the place of the old one."""
        index = self._index(fact.ns, fact.link)
        to = self._index(fact.ns, fact.to) if fact.to is not None else 0
        self._require_built()
        with Program.load(self._path, PROGRAM) as program:
            if not _fits(program):
                raise self._misfit()
            value = _CONFIG.pack(SCHEMA, build(self._path), fact.mark, to, int(fact.peer))
            program.maps[CONFIG].update(_FIRST, value)
            tc.attach(self._netlink, fact.ns, index, program.fd, FILTER, self._hook(fact.ns, index))


def _fits(program: Program) -> bool:
    """Tell whether the map has the sizes that we read and write."""
    config = program.maps.get(CONFIG)
    return config is not None and (config.key_size, config.value_size) == (len(_FIRST), _CONFIG.size)
