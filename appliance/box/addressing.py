"""Addresses, routes, DHCP and name servers of one interface of network-config. Pure; called by `appliance.box.network`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, Final

from appliance.box.reader import Reader
from appliance.model.text import Path

KEYS: Final = frozenset({
    *("dhcp4", "dhcp6", "dhcp4-overrides", "dhcp6-overrides", "addresses", "gateway4", "gateway6", "routes"),
    *("nameservers", "mtu", "accept-ra", "link-local"),
})  # fmt: skip
_OVERRIDES: Final = {
    "use-dns": "UseDNS",
    "use-ntp": "UseNTP",
    "use-routes": "UseRoutes",
    "use-mtu": "UseMTU",
    "send-hostname": "SendHostname",
}
_DOMAIN: Final = re.compile(r"~?[A-Za-z0-9.-]{1,253}")
_TYPES: Final = (
    "unicast",
    "local",
    "blackhole",
    "unreachable",
    "prohibit",
    "throw",
    "anycast",
    "multicast",
    "broadcast",
)
_SCOPES: Final = ("global", "link", "host")
_LAST: Final = 2**32 - 1


def read(reader: Reader, said: Mapping[str, Any], at: Path) -> tuple[list[str], list[str]]:
    """Return the lines of [Network], and the sections after it."""
    dhcp4, dhcp6 = (key in said and reader.flag(said[key], (*at, key)) for key in ("dhcp4", "dhcp6"))
    lines = [f"DHCP={ {(True, True): 'yes', (True, False): 'ipv4', (False, True): 'ipv6'}.get((dhcp4, dhcp6), 'no') }"]
    if "accept-ra" in said or not dhcp6:
        accepts = "accept-ra" in said and reader.flag(said["accept-ra"], (*at, "accept-ra"))
        lines.append(f"IPv6AcceptRA={_yes(accepts)}")
    lines.append(f"LinkLocalAddressing={_link_local(reader, said, at)}")
    # What the daemon put on an interface stays when networkd starts again; so do addresses while a cable is out,
    # unless somebody lends them.
    lines += (
        ["KeepConfiguration=static"] if dhcp4 or dhcp6 else ["KeepConfiguration=yes", "ConfigureWithoutCarrier=yes"]
    )
    lines += [f"Address={address}" for address in _addresses(reader, said, at)]
    lines += _nameservers(reader, said.get("nameservers"), (*at, "nameservers"))
    more = _dhcp(reader, said, at) if dhcp4 or dhcp6 else []
    for key, version in (("gateway4", 4), ("gateway6", 6)):
        if key in said and (gateway := _address(reader, said[key], (*at, key), version)):
            more += ["", "[Route]", f"Gateway={gateway}"]
    for path, item in reader.items(said.get("routes"), (*at, "routes")):
        more += ["", "[Route]", *_route(reader, item, path)]
    return lines, more


def _yes(value: bool) -> str:  # noqa: FBT001 - what it turns into a word
    return "yes" if value else "no"


def _link_local(reader: Reader, said: Mapping[str, Any], at: Path) -> str:
    if "link-local" not in said:
        return "ipv6"
    kinds = reader.texts(said["link-local"], (*at, "link-local"), re.compile("ipv4|ipv6"), "ipv4 or ipv6")
    return "yes" if len(set(kinds)) > 1 else "".join(kinds[:1]) or "no"


def _addresses(reader: Reader, said: Mapping[str, Any], at: Path) -> list[str]:
    """Return the addresses; one may be a mapping with options, of which none is taken."""
    found = []
    for path, item in reader.items(said.get("addresses"), (*at, "addresses")):
        if isinstance(item, dict):
            reader.doubt(path, "options of an address have no effect")
        for one in item if isinstance(item, dict) else [item]:
            try:
                address = ip_interface(one if isinstance(one, str) and "/" in one and "%" not in one else "")
            except ValueError:
                reader.wrong(path, "must be an address with its prefix length, like 192.0.2.1/24")
            else:
                found.append(str(address))
    return found


def _address(reader: Reader, value: Any, at: Path, version: int = 0) -> str:
    try:
        address = ip_address(value if isinstance(value, str) and "%" not in value else "")
    except ValueError:
        reader.wrong(at, "must be an address")
        return ""
    if version and address.version != version:
        reader.wrong(at, f"must be an IPv{version} address")
    return str(address)


def _nameservers(reader: Reader, value: Any, at: Path) -> list[str]:
    said = reader.table(value, at, {"addresses", "search"})
    servers = [_address(reader, one, path) for path, one in reader.items(said.get("addresses"), (*at, "addresses"))]
    lines = [f"DNS={server}" for server in servers if server]
    domains = reader.texts(said.get("search", []), (*at, "search"), _DOMAIN, "a domain")
    return lines + ([f"Domains={' '.join(domains)}"] if domains else [])


def _dhcp(reader: Reader, said: Mapping[str, Any], at: Path) -> list[str]:
    # The name is the seed's; taking another's would also start a service for it.
    lines = ["", "[DHCPv4]", "UseHostname=no"]
    for key, section in (("dhcp4-overrides", ""), ("dhcp6-overrides", "[DHCPv6]")):
        options = reader.table(said.get(key), (*at, key), {*_OVERRIDES, "route-metric"})
        if options and section:
            lines += ["", section]
        for name, value in options.items():
            path = (*at, key, name)
            if name == "route-metric":
                lines.append(f"RouteMetric={reader.number(value, path, 0, _LAST)}")
            else:
                lines.append(f"{_OVERRIDES[name]}={_yes(reader.flag(value, path))}")
    return lines


def _route(reader: Reader, item: Any, at: Path) -> list[str]:
    known = {"to", "via", "from", "metric", "table", "on-link", "mtu", "type", "scope"}
    said = reader.table(item, at, known)
    lines = []
    if "to" in said:
        lines += _destination(reader, said["to"], (*at, "to"))
    else:
        reader.wrong(at, "needs `to`: a prefix, or default")
    for key, option in (("via", "Gateway"), ("from", "PreferredSource")):
        if key in said:
            lines.append(f"{option}={_address(reader, said[key], (*at, key))}")
    for key, option, low in (("metric", "Metric", 0), ("table", "Table", 1), ("mtu", "MTUBytes", 68)):
        if key in said:
            lines.append(f"{option}={reader.number(said[key], (*at, key), low, _LAST)}")
    for key, option, words in (("type", "Type", _TYPES), ("scope", "Scope", _SCOPES)):
        if said.get(key) in words:
            lines.append(f"{option}={said[key]}")
        elif key in said:
            reader.wrong((*at, key), f"must be one of {', '.join(words)}")
    if "on-link" in said:
        lines.append(f"GatewayOnLink={_yes(reader.flag(said['on-link'], (*at, 'on-link')))}")
    return lines


def _destination(reader: Reader, value: Any, at: Path) -> list[str]:
    """Return a route's destination; the default route has none, its gateway says of which family it is."""
    if value == "default":
        return []
    try:
        return [f"Destination={ip_network(value if isinstance(value, str) else '')}"]
    except ValueError:
        reader.wrong(at, "must be a prefix like 192.0.2.0/24, without bits beyond its length, or default")
        return []
