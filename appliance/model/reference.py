"""The reference manual of the intent: one valid intent that sets every key, each with its meaning, type and default.

Printed by `edgeway reference` from the classes of `appliance.model.intent`; kept as `design/reference-intent.yaml`.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from appliance.model.fields import Section
from appliance.model.intent import Intent, PrefixMatch
from appliance.model.text import parse_yaml

HEADER: Final = """\
# Every key of an intent: what it means (its type; its default), then an example. All together is a valid intent.
# A prefix rule is written `10.0.0.0/8` (that prefix alone), `10.0.0.0/8 le 24` (and inside it, up to that length) or
# `10.0.0.0/8 ge 16 le 24` (inside it, of these lengths).
"""

EXAMPLE: Final[dict[str, Any]] = {
    "zone": {
        "name": "az1",
        "as": 64512,
        "exchange-as": 64500,
        "composed": "fd00:ed9e::/48",
        "public": ["203.0.113.0/24"],
        "nat-slots": 16,
    },
    "nodes": {
        "rs1": {
            "id": 1,
            "roles": ["route-server"],
            "engine": "native",
            "loopback": {"ipv4": "10.255.0.1", "ipv6": "fd00:ff::1"},
            "fabric": {"interface": "eth1", "ipv4": "10.0.0.1/24", "ipv6": "fd00:fab::1/64", "mtu": 1500},
            "exchange": {"interface": "eth2", "ipv4": "192.0.2.1/24", "ipv6": "2001:db8:ff::1/64"},
        },
        "h1": {
            "id": 11,
            "roles": ["host"],
            "loopback": {"ipv4": "10.255.0.11", "ipv6": "fd00:ff::11"},
            "fabric": {"interface": "eth1", "ipv4": "10.0.0.11/24", "ipv6": "fd00:fab::11/64"},
        },
        "gw1": {
            "id": 21,
            "roles": ["gateway"],
            "loopback": {"ipv4": "10.255.0.21", "ipv6": "fd00:ff::21"},
            "fabric": {"interface": "eth1", "ipv4": "10.0.0.21/24", "ipv6": "fd00:fab::21/64"},
            "exchange": {"interface": "eth2", "ipv4": "192.0.2.21/24", "ipv6": "2001:db8:ff::21/64"},
        },
    },
    "peers": {
        "upstream": {
            "plane": "exchange",
            "as": 65101,
            "addresses": ["192.0.2.101", "2001:db8:ff::101"],
            "announces": {"prefixes": [], "transit": True, "max-prefixes": 1000000},
            "receives": ["203.0.113.0/24"],
            "role": "rs-client",
        },
        "legacy": {
            "plane": "zone",
            "as": 64512,
            "range": "10.0.0.128/25",
            "announces": {"prefixes": ["10.77.0.0/16 le 24"]},
        },
    },
    "vpcs": {
        "red": {
            "id": 101,
            "subnet": "172.16.1.0/24",
            "gateway": "172.16.1.1",
            "snat": {"address": "203.0.113.1", "block": 1024, "watermark": 0.75},
            "guests": {
                "r1": {"host": "h1", "interface": "eth2", "address": "172.16.1.11", "public": "203.0.113.11"},
                "r2": {"host": "h1", "interface": "eth3", "address": "172.16.1.12"},
            },
            "vips": {
                "web": {
                    "address": "203.0.113.80",
                    "protocol": "tcp",
                    "port": 80,
                    "backends": ["r1", "r2"],
                    "target-port": 8080,
                    "health": {"interval": 1.0, "timeout": 1.0, "rise": 2, "fall": 2},
                },
            },
            "groups": {"web": ["r1", "172.16.1.128/28"]},
            "service-nodes": {
                "ids": {"id": 1, "host": "h1", "interface": "eth4", "link": "192.168.254.0/31", "on-failure": "allow"},
            },
            "firewall": {
                "rules": [
                    {
                        "action": "allow",
                        "source": ["outside"],
                        "destination": ["r1", "172.16.1.12/32"],
                        "protocol": "tcp",
                        "ports": [8080, "9000-9099"],
                    },
                    {
                        "action": "redirect",
                        "source": ["r2"],
                        "destination": ["web"],
                        "protocol": "any",
                        "applies-to": ["web"],
                        "tier": "infrastructure",
                        "to": "ids",
                    },
                    {"action": "limit", "protocol": "icmp", "rate": 100},
                ],
                "inbound": "deny",
                "outbound": "allow",
                "internal": "allow",
            },
            "established": {
                "backend-gone": "reset",
                "vip-gone": "reset",
                "snat-moved": "keep",
                "floating-moved": "drop",
                "guest-gone": "re-judge",
            },
        },
    },
    "inline": {
        "dmz": {
            "id": 1,
            "host": "h1",
            "form": "inside",
            "bridges": {
                "a": {"north": "eth5", "south": "eth6", "engine": "main"},
                "b": {"north": "eth7", "south": "eth8", "engine": "main"},
            },
            "engines": {
                "main": {
                    "id": 1,
                    "rules": [
                        {
                            "action": "allow",
                            "toward": "south",
                            "source": ["198.51.100.0/24"],
                            "destination": ["203.0.113.0/24"],
                            "protocol": "tcp",
                            "ports": [443],
                        },
                    ],
                    "northward": "allow",
                    "southward": "deny",
                },
            },
            "mirror": True,
        },
    },
}


def reference() -> str:
    """Return the manual as YAML text."""
    return HEADER + "\n".join(_section(Intent, EXAMPLE, "", set())) + "\n"


Seen = set[tuple[type[Section], str]]


def _section(kind: type[Section], tree: dict[str, Any], indent: str, seen: Seen) -> Iterator[str]:
    """Write a section; a key is explained where it stands for the first time."""
    for key, info in keys(kind).items():
        if key not in tree:
            continue
        if (kind, key) not in seen:
            seen.add((kind, key))
            if kind is Intent:
                yield ""
            yield f"{indent}# {info.description} ({type_words(info.annotation, info.metadata)}; {default_words(info)})"
        yield from _value(key, _inner(info.annotation), tree[key], indent, seen)


def keys(kind: type[Section]) -> dict[str, FieldInfo]:
    """Return the keys of a section as they are written."""
    return {info.alias or name: info for name, info in kind.model_fields.items()}


def _value(key: str, kind: type[Section] | None, value: Any, indent: str, seen: Seen) -> Iterator[str]:
    if kind is None:
        yield f"{indent}{key}: {_plain(value)}"
        return
    yield f"{indent}{key}:"
    inner = indent + "  "
    if isinstance(value, list):
        for item in value:
            lines = list(_section(kind, item, inner + "  ", seen))
            first = next(index for index, line in enumerate(lines) if not line.lstrip().startswith("#"))
            # The dash belongs to the first key; what explains it stands above.
            yield from (line[2:] for line in lines[:first])
            yield f"{inner}- {lines[first].strip()}"
            yield from lines[first + 1 :]
    elif set(value) <= set(keys(kind)):
        yield from _section(kind, value, inner, seen)
    else:
        for name, item in value.items():
            yield f"{inner}{name}:"
            yield from _section(kind, item, inner + "  ", seen)


def _inner(annotation: Any) -> type[Section] | None:
    """Return the section that stands in an annotation, if it is written as one."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return None if annotation is PrefixMatch else annotation
    return next((found for part in get_args(annotation) if (found := _inner(part))), None)


def _plain(value: Any) -> str:
    """Write a scalar or a list of them; text in quotes only where it would be read as something else."""
    if isinstance(value, list):
        return f"[{', '.join(_plain(item) for item in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return str(value)
    return value if ":" not in value and parse_yaml(f"a: [{value}]").data == {"a": [value]} else f'"{value}"'


_WORDS: Final[dict[Any, str]] = {
    bool: "true or false",
    str: "text",
    IPv4Address: "IPv4 address",
    IPv6Address: "IPv6 address",
    IPv4Network: "IPv4 prefix",
    IPv6Network: "IPv6 prefix",
    IPv4Interface: "IPv4 address with length",
    IPv6Interface: "IPv6 address with length",
    PrefixMatch: "prefix rule",
}


def type_words(annotation: Any, metadata: Any = ()) -> str:
    """Say what may stand at a key."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return type_words(parts[0], (*annotation.__metadata__, *metadata))
    if origin is Literal:
        return "one of " + " ".join(str(part) for part in parts)
    if origin in (Union, UnionType):
        return " or ".join(type_words(part, metadata) for part in parts if part is not NoneType)
    if origin in (tuple, dict):
        return f"list: {type_words(parts[0])}" if origin is tuple else "sections by name"
    return "number" + _bounds(metadata) if annotation in (int, float) else _WORDS.get(annotation, "section")


def _bounds(metadata: Any) -> str:
    found: dict[str, Any] = {}
    for item in metadata:
        for constraint in (item, *getattr(item, "metadata", ())):
            found |= {word: getattr(constraint, word) for word in ("gt", "ge", "le") if hasattr(constraint, word)}
    words = {"gt": "above {}", "ge": "from {}", "le": "to {}"}
    return "".join(f" {words[word].format(value)}" for word, value in found.items() if value is not None)


def default_words(info: FieldInfo) -> str:
    """Say what stands when the key is absent."""
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return "optional"
    if isinstance(value, Section):
        return "by default that of each key"
    if isinstance(value, bool):
        return f"default {str(value).lower()}"
    return "default none" if value in ((), {}) else f"default {value}"
