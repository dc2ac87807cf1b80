"""The port of `Compose` facts: the tc program of `bpf/compose.bpf.c` on the ingress of a device, its values in maps.

Nothing is pinned. The program is found by the name of its filter, its maps by the program, so a restarted daemon finds
everything where it left it. Members change in place. Another source or prefix, and a program that was built from other
sources than ours (`build` in its configuration is the digest of the object file), is a new program that is filled first
and then takes the place of the old one in one step: traffic goes on.

A value is believed only if its size and its schema number are ours: the kernel loads a program against a map of another
layout without complaint. What carries our name and is not believed is read as a fact without source, so that it differs
from whatever is desired.
"""

from __future__ import annotations

import struct
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.kernel import tc
from appliance.kernel.compose_table import SLOTS, slots
from appliance.kernel.libbpf import Map, Program
from appliance.kernel.tc_port import TcPort, build
from appliance.model.errors import InternalError
from appliance.model.facts import Compose, Namespace
from appliance.model.marks import NODE_IDS

if TYPE_CHECKING:
    from appliance.kernel.namespaces import Namespaces

OBJECT: Final = Path(__file__).parent / "bpf" / "compose.bpf.o"
#: Name of the filter, and of the function in the object.
FILTER, PROGRAM = "ew-compose", "ew_compose"
CONFIG, MEMBERS = "ew_config", "ew_members"
#: Raised with every change of the layout of `struct config` or `struct members`.
SCHEMA: Final = 1
_CONFIG: Final = struct.Struct("=I12s16s16s")
_MEMBERS: Final = struct.Struct(f">{SLOTS}H")
_IDS: Final = struct.Struct("=Q")
_KEY, _FIRST = 4, bytes(4)
_PREFIX_LENGTH: Final = 48


def pack_config(fact: Compose, made_from: bytes) -> bytes:
    """Encode struct config."""
    return _CONFIG.pack(SCHEMA, made_from, fact.source.packed, fact.prefix.network_address.packed)


def pack_members(address: IPv4Address, ids: tuple[int, ...]) -> bytes:
    """Encode struct members."""
    if not all(1 <= member <= NODE_IDS for member in ids):
        raise InternalError(f"{address} has members {ids}: ids are 1..{NODE_IDS}")
    return _MEMBERS.pack(*slots(address, ids)) + _IDS.pack(sum(1 << member for member in set(ids)))


def unpack_members(value: bytes) -> tuple[int, ...]:
    """Decode the ids in struct members."""
    bits = _IDS.unpack_from(value, _MEMBERS.size)[0]
    return tuple(member for member in range(NODE_IDS + 1) if bits >> member & 1)


class ComposePort(TcPort[Compose]):
    """Composing devices of a node."""

    def __init__(self, namespaces: Namespaces, path: Path = OBJECT) -> None:
        """`path` is the compiled program."""
        super().__init__(namespaces, "compose", FILTER, path)

    def _fact(self, ns: Namespace, link: str, program: Program) -> Compose:
        """Return what a program does."""
        config = _believed(program)
        if config is None or config[0] != build(self._path):
            return Compose(ns, link, IPv6Address(0), IPv6Network((0, _PREFIX_LENGTH)))
        held = program.maps[MEMBERS]
        members = []
        for key in list(held):
            value = held.lookup(key)
            if value is not None:
                members.append((IPv4Address(key), unpack_members(value)))
        source, prefix = config[1], IPv6Network((config[2], _PREFIX_LENGTH), strict=False)
        return Compose(ns, link, source, prefix, tuple(sorted(members)))

    def _put(self, fact: Compose) -> None:
        """Change the members of the program that is there, or put a new one in its place."""
        index = self._index(fact.ns, fact.link)
        hook = self._hook(fact.ns, index)
        self._require_built()
        wanted = pack_config(fact, build(self._path))
        with ExitStack() as stack:
            if hook is not None:
                program = stack.enter_context(Program.by_id(hook.program))
                if _believed(program) is not None and program.maps[CONFIG].lookup(_FIRST) == wanted:
                    _fill(program.maps[MEMBERS], fact)
                    return
            program = stack.enter_context(Program.load(self._path, PROGRAM))
            if not _fits(program):
                raise self._misfit()
            program.maps[CONFIG].update(_FIRST, wanted)
            _fill(program.maps[MEMBERS], fact)
            tc.attach(self._netlink, fact.ns, index, program.fd, FILTER, hook)


def _fits(program: Program) -> bool:
    """Tell whether the maps have the sizes that we read and write."""
    config, members = program.maps.get(CONFIG), program.maps.get(MEMBERS)
    if config is None or members is None:
        return False
    sizes = (config.key_size, config.value_size, members.key_size, members.value_size)
    return sizes == (_KEY, _CONFIG.size, _KEY, _MEMBERS.size + _IDS.size)


def _believed(program: Program) -> tuple[bytes, IPv6Address, IPv6Address] | None:
    """Return build, source and prefix of a program whose layout is ours."""
    value = program.maps[CONFIG].lookup(_FIRST) if _fits(program) else None
    if value is None:
        return None
    schema, made_from, source, prefix = _CONFIG.unpack(value)
    return (made_from, IPv6Address(source), IPv6Address(prefix)) if schema == SCHEMA else None


def _fill(held: Map, fact: Compose) -> None:
    """Write what is different; an address that is composed by port again goes last."""
    wanted = {address.packed: pack_members(address, ids) for address, ids in fact.members}
    for key, value in wanted.items():
        if held.lookup(key) != value:
            held.update(key, value)
    for key in [key for key in held if key not in wanted]:
        held.delete(key)
