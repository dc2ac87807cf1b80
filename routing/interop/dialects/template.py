"""A router that we do not know: the user's own template, or the user's own configuration.

In a template, ${asn}, ${router_id}, ${address4} and ${address6} are the device's. What stands between the lines `%neighbors` (or
`%neighbors4`, `%neighbors6`) and `%end` is written once for each member (of that family), with ${address}, ${asn}, ${number},
${name}, ${local_asn}, ${local_address} and ${shuns} being the member's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Final

from appliance.model.errors import OperatorError
from routing.bgp.values import Family
from routing.interop.dialects.dialect import Dialect, Written
from routing.interop.world import Knob, Member, World

_BLOCK: Final = re.compile(r"^%neighbors([46]?)[ \t]*\n(.*?)^%end[ \t]*(?:\n|\Z)", re.MULTILINE | re.DOTALL)
#: Routers have dollars of their own.
_BLANK: Final = re.compile(r"\$\{([a-z_0-9]+)\}")


def template(text: str, name: str, knobs: frozenset[Knob]) -> Dialect:
    """Return the dialect of a template."""
    return Dialect("template", partial(_write, text, name), knobs)


def none(knobs: frozenset[Knob]) -> Dialect:
    """Return the dialect of somebody who has written the configuration already."""
    return Dialect("none", lambda _world, _run: Written({}), knobs)


def _write(text: str, name: str, world: World, _: str) -> Written:
    own = {
        "asn": str(world.asn),
        "router_id": str(world.router_id),
        "address4": str(world.addresses[Family.IPV4]),
        "address6": str(world.addresses[Family.IPV6]),
    }
    return Written({name: _filled(_BLOCK.sub(partial(_block, world), text), own)}, name)


def _block(world: World, found: re.Match[str]) -> str:
    family = {"4": Family.IPV4, "6": Family.IPV6}.get(found[1])
    members = [member for member in world.members if family in (None, member.family)]
    return "".join(_filled(found[2], _fields(world, member)) for member in members)


def _fields(world: World, member: Member) -> dict[str, str]:
    return {
        "address": str(member.address),
        "asn": str(member.asn),
        "number": str(member.number),
        "name": member.name,
        "local_asn": str(world.asn),
        "local_address": str(world.addresses[member.family]),
        "shuns": "" if member.shuns is None else str(member.shuns),
    }


def _filled(text: str, fields: Mapping[str, str]) -> str:
    unknown = sorted(set(_BLANK.findall(text)) - fields.keys())
    if unknown:
        known = ", ".join(f"${{{name}}}" for name in fields)
        raise OperatorError.of(f"the template has ${{{unknown[0]}}}, which there is not here", f"there are {known}")
    return _BLANK.sub(lambda found: fields[found[1]], text)
