"""network-config version 2 -> files of systemd-networkd and udev, as texts. Pure; called by `appliance.box.seed`.

Ethernets, VLANs and bonds; bridges and tunnels are the intent's business. networkd is told to leave alone what it did not
make itself: the daemon's addresses, routes and next hops live on the same interfaces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.box import addressing
from appliance.box.reader import Reader
from appliance.model.marks import DEVICE_PREFIX
from appliance.model.text import Path

DEVICE: Final = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9_.-]{1,15}")
_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_GLOB: Final = re.compile(r"[A-Za-z0-9_.*?\[\]-]{1,30}")
_MAC: Final = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
_BOND_MODES: Final = (
    "balance-rr",
    "active-backup",
    "balance-xor",
    "broadcast",
    "802.3ad",
    "balance-tlb",
    "balance-alb",
)
_HASHES: Final = ("layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac")

_TOP: Final = {
    **dict.fromkeys(("bridges", "tunnels", "vrfs", "dummy-devices"), "the intent makes what the box forwards with"),
    **dict.fromkeys(("wifis", "modems"), "there is no driver for it"),
}
_IGNORED: Final = {
    "optional": "nothing waits for an interface",
    "wakeonlan": "a box that is off stays off",
    "renderer": "there is only networkd",
    "critical": "addresses stay when networkd restarts",
    "emit-lldp": "LLDP is not spoken",
    "ipv6-privacy": "a router's addresses are no secret",
    "dhcp-identifier": "the DUID follows from the machine's id",
}


@dataclass(frozen=True, slots=True, order=True)
class NetworkFile:
    """A file of /etc/systemd/network."""

    name: str
    text: str


@dataclass(slots=True)
class _Port:
    """What becomes one .network file."""

    match: list[str]
    link: list[str] = field(default_factory=list)
    network: list[str] = field(default_factory=list)
    more: list[str] = field(default_factory=list)


def fallback() -> tuple[NetworkFile, ...]:
    """Return what a seed without network-config gets: the first interface asks for an address, as everywhere."""
    port = _Port(["Name=eth0"], network=["DHCP=ipv4", "IPv6AcceptRA=yes", "KeepConfiguration=static"])
    return (NetworkFile("10-edgeway-eth0.network", _text(port)),)


def read(reader: Reader) -> tuple[NetworkFile, ...]:
    """Return the files of a network-config; () when it has none or is wrong."""
    return _Network(reader).files()


class _Network:
    """One network-config; ports by the id they have in it."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._ports: dict[str, _Port] = {}
        self._names: dict[str, Path] = {}
        self._others: list[NetworkFile] = []

    def files(self) -> tuple[NetworkFile, ...]:
        """Read all of it."""
        reader, data = self._reader, self._reader.document.data
        at: Path = ()
        if isinstance(data, dict) and "network" in data:
            reader.table(data, (), {"network"})
            data, at = data["network"], ("network",)
        version = data.get("version") if isinstance(data, dict) else None
        if isinstance(data, dict) and version not in (2, "2"):
            reader.wrong((*at, "version"), "must be 2", "write `version: 2` and `ethernets:`")
            return ()
        said = reader.table(data, at, {"version", "ethernets", "vlans", "bonds"}, {**_IGNORED, **_TOP})
        readers = {"ethernets": self._ethernet, "bonds": self._bond, "vlans": self._vlan}
        for kind, make in readers.items():  # a VLAN may be on a bond, a bond is of ethernets
            tables = reader.table(said.get(kind), (*at, kind), said.get(kind) or ())
            for name, table in tables.items():
                make(reader.text(name, (*at, kind, name), _ID, "a name"), table, (*at, kind, name))
        ports = [NetworkFile(f"10-edgeway-{name}.network", _text(port)) for name, port in self._ports.items()]
        return tuple(sorted(ports + self._others))

    def _ethernet(self, name: str, table: Any, at: Path) -> None:
        known = addressing.KEYS | {"match", "set-name", "macaddress"}
        said = self._reader.table(table, at, known, _IGNORED)
        lines = self._match(said.get("match"), (*at, "match"))
        if not lines:
            device = self._device(name, at)
            lines = [f"Name={device}"]
        if "set-name" in said:
            lines = self._set_name(name, said["set-name"], (*at, "set-name"), lines)
        self._port(name, lines, said, at)

    def _match(self, value: Any, at: Path) -> list[str]:
        """Return how networkd and udev find the interface; [] when nothing is said."""
        reader = self._reader
        said = reader.table(value, at, {"name", "macaddress", "driver"})
        if value is not None and not said:
            reader.wrong(at, "must have name, macaddress or driver")
        lines = []
        if "name" in said:
            lines.append(f"OriginalName={reader.text(said['name'], (*at, 'name'), _GLOB, 'a name, * stands for any')}")
        if "macaddress" in said:
            address = reader.text(said["macaddress"], (*at, "macaddress"), _MAC, "an address like 52:54:00:12:34:56")
            lines.append(f"PermanentMACAddress={address.lower()}")
        if "driver" in said:
            drivers = reader.texts(said["driver"], (*at, "driver"), _GLOB, "a driver's name")
            lines.append(f"Driver={' '.join(drivers)}")
        return lines

    def _set_name(self, name: str, value: Any, at: Path, match: list[str]) -> list[str]:
        """Give the interface a name as soon as it appears; from then on it is found by that."""
        device = self._device(value, at)
        if not any(line.startswith("Permanent") for line in match):
            self._reader.wrong(at, "needs match.macaddress: a name is for one interface")
        text = "\n".join(["[Match]", *match, "", "[Link]", f"Name={device}", ""])
        self._others.append(NetworkFile(f"10-edgeway-{name}.link", text))
        return [f"Name={device}"]

    def _bond(self, name: str, table: Any, at: Path) -> None:
        reader = self._reader
        said = reader.table(table, at, addressing.KEYS | {"interfaces", "parameters", "macaddress"}, _IGNORED)
        device = self._device(name, at)
        lines = self._parameters(said.get("parameters"), (*at, "parameters"))
        for member in reader.texts(said.get("interfaces", []), (*at, "interfaces"), _ID, "the id of an ethernet"):
            if member in self._ports:
                self._ports[member].network.append(f"Bond={device}")
            else:
                reader.wrong((*at, "interfaces"), f"there is no ethernet {member}", "list it under ethernets")
        self._netdev(device, "bond", "[Bond]", lines)
        self._port(name, [f"Name={device}"], said, at)

    def _parameters(self, value: Any, at: Path) -> list[str]:
        reader = self._reader
        known = {"mode", "mii-monitor-interval", "lacp-rate", "transmit-hash-policy"}
        said = reader.table(value, at, known)
        words = {"mode": ("Mode", _BOND_MODES), "lacp-rate": ("LACPTransmitRate", ("slow", "fast"))}
        words["transmit-hash-policy"] = ("TransmitHashPolicy", _HASHES)
        lines = []
        for key, (option, allowed) in words.items():
            if said.get(key) in allowed:
                lines.append(f"{option}={said[key]}")
            elif key in said:
                reader.wrong((*at, key), f"must be one of {', '.join(allowed)}")
        interval = said.get("mii-monitor-interval", 100)
        lines.append(f"MIIMonitorSec={reader.number(interval, (*at, 'mii-monitor-interval'), 1, 60000)}ms")
        return lines

    def _vlan(self, name: str, table: Any, at: Path) -> None:
        reader = self._reader
        said = reader.table(table, at, addressing.KEYS | {"id", "link", "macaddress"}, _IGNORED)
        device = self._device(name, at)
        number = reader.number(said.get("id"), (*at, "id"), 1, 4094)
        parent = self._ports.get(str(said.get("link")))
        if parent is None:
            reader.wrong((*at, "link"), "must name an ethernet or a bond of this file")
        else:
            parent.network.append(f"VLAN={device}")
        self._netdev(device, "vlan", "[VLAN]", [f"Id={number}"])
        self._port(name, [f"Name={device}"], said, at)

    def _netdev(self, device: str, kind: str, section: str, lines: list[str]) -> None:
        text = "\n".join(["[NetDev]", f"Name={device}", f"Kind={kind}", "", section, *lines, ""])
        self._others.append(NetworkFile(f"10-edgeway-{device}.netdev", text))

    def _port(self, name: str, match: list[str], said: Mapping[str, Any], at: Path) -> None:
        port = _Port(match)
        if "macaddress" in said:
            address = self._reader.text(
                said["macaddress"], (*at, "macaddress"), _MAC, "an address like 52:54:00:12:34:56"
            )
            port.link.append(f"MACAddress={address.lower()}")
        if "mtu" in said:
            port.link.append(f"MTUBytes={self._reader.number(said['mtu'], (*at, 'mtu'), 68, 65535)}")
        port.network, port.more = addressing.read(self._reader, said, at)
        self._ports[name] = port

    def _device(self, value: Any, at: Path) -> str:
        """Return a name that the kernel takes and that neither the kernel nor we give a meaning."""
        device = self._reader.text(value, at, DEVICE, "a name of at most 15 letters, digits, _, . and -")
        if device in ("lo", "all", "default") or device.startswith(DEVICE_PREFIX):
            self._reader.wrong(at, f"{device} is reserved")
        elif device in self._names:
            self._reader.wrong(at, f"{device} is named twice")
        self._names[device] = at
        return device


def _text(port: _Port) -> str:
    match = [line.replace("OriginalName=", "Name=") for line in port.match]
    lines = ["[Match]", *match]
    if port.link:
        lines += ["", "[Link]", *port.link]
    return "\n".join([*lines, "", "[Network]", *port.network, *port.more, ""])
