"""Who else can put routes into the kernel: the contenders of `bench.fib` that are not Edgeway.

- Raw netlink (`bench.rawroutes`): routes with a gateway each, and routes that name a next-hop object as ours do.
- ip: `ip -batch` of files that are ready.
- BIRD: static routes, enabled and disabled by birdc, to its kernel protocol; the backup is in its table already.
- FRR: zebra told by bgpd, which is told by a BGP session that does nothing else (and knows IPv4 alone); the backup is in
  its table already.

Daemons are watched by the CPU time they take: they are done when they rest. CPU is theirs and the kernel's on their
behalf; what the kernel does later by itself (RCU) is nobody's.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.model.facts import HOST
from bench.feeder import Feeder
from bench.place import BOX, FEEDER, WIRE, A, B, C, own_time, quiet, time_of
from bench.rawroutes import CREATE, DELETE_ROUTE, NEW_ROUTE, PROTOCOL, REPLACE, Raw, pack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.fibload import Load, Seen
    from bench.place import Place

RAW, GATEWAYS, OBJECTS, READY = "raw netlink", "gateways", "next-hop objects", "packed before"
BIRD = "BIRD 2, static to kernel"
ZEBRA, BGPD = Path("/usr/lib/frr/zebra"), Path("/usr/lib/frr/bgpd")
_WITHIN = 30.0
_PROTO = ("proto", str(PROTOCOL))
#: Ids of raw next-hop objects: two groups, the hops in them, and the hop that is in none at first.
_GROUPS, _HOPS = (11, 13), (1, 3, 2)


def raw(at: Place, load: Load, seen: Seen) -> None:
    """Measure packed netlink: both kinds of routes, with the packing and without."""
    with at.namespaces.in_namespace(HOST):
        Path("/proc/sys/net/ipv4/nexthop_compat_mode").write_text("0")  # as ours
    link = Raw.open(at.namespaces, HOST, WIRE)
    try:
        _raw_gateways(at, load, seen, link)
        _raw_objects(at, load, seen, link)
    finally:
        link.close()


def _raw_gateways(at: Place, load: Load, seen: Seen, link: Raw) -> None:
    first, last, backup = map(link.gateway, (load.first, load.last, load.backup))
    _raw_add(at, load, seen, link, GATEWAYS, (first, last))
    with own_time() as watch:
        link.push(pack(NEW_ROUTE, load.networks[: load.half], backup, REPLACE))
    seen.half(load, f"{RAW}, {GATEWAYS}", watch, at.routes(*_PROTO, "via", str(load.backup), version=load.version))
    link.push(pack(DELETE_ROUTE, load.networks, b"", 0))


def _raw_objects(at: Place, load: Load, seen: Seen, link: Raw) -> None:
    by, (group, other) = f"{RAW}, {OBJECTS}", _GROUPS
    for number, via in zip(_HOPS, (load.first, load.last, load.backup), strict=True):
        link.hop(number, via)
    for number, member in zip(_GROUPS, _HOPS, strict=False):
        link.group(number, member)
    ways = [link.object(number) for number in _GROUPS]
    _raw_add(at, load, seen, link, OBJECTS, ways)
    backup = _HOPS[2]
    with own_time() as watch:
        link.group(group, backup)
    seen.half(load, by, watch, _behind(at, load, group))
    link.push(pack(NEW_ROUTE, load.networks, ways[1], REPLACE))
    with own_time() as watch:
        link.group(other, backup)
    seen.whole(load, by, watch, _behind(at, load, other))
    link.push(pack(DELETE_ROUTE, load.networks, b"", 0))


def _raw_add(at: Place, load: Load, seen: Seen, link: Raw, by: str, ways: Sequence[bytes]) -> None:
    """Add all routes, the halves of them in two ways."""
    halves = load.networks[: load.half], load.networks[load.half :]
    with own_time() as both:
        packed = [batch for half, way in zip(halves, ways, strict=True) for batch in pack(NEW_ROUTE, half, way, CREATE)]
        with own_time() as push:
            link.push(packed)
    there = at.routes(*_PROTO, version=load.version)
    seen.add(load, f"{RAW}, {by}", both, there)
    seen.add(load, f"{RAW}, {by}, {READY}", push, there)


def _behind(at: Place, load: Load, group: int) -> int:
    """Count the routes of a group, if it leads via the backup."""
    assert f"via {load.backup}" in at.run("ip", "nexthop", "show", "id", str(_HOPS[2]))
    assert f"group {_HOPS[2]} " in at.run("ip", "nexthop", "show", "id", str(group))
    return at.run("ip", f"-{load.version}", "route", "show", *_PROTO).count(f"nhid {group} ")


def iproute(at: Place, load: Load, seen: Seen) -> None:
    """Measure `ip -batch`."""
    adding, moving, family = at.directory / "add", at.directory / "move", f"-{load.version}"
    via = [load.first] * load.half + [load.last] * load.half
    rest = f"dev {WIRE} proto {PROTOCOL}"
    adding.write_text("".join(f"route add {n} via {v} {rest}\n" for n, v in zip(load.networks, via, strict=True)))
    moving.write_text("".join(f"route replace {n} via {load.backup} {rest}\n" for n in load.networks[: load.half]))
    with own_time() as watch:
        at.run("ip", family, "-batch", str(adding))
    seen.add(load, "ip -batch", watch, at.routes(*_PROTO, version=load.version))
    with own_time() as watch:
        at.run("ip", family, "-batch", str(moving))
    seen.half(load, "ip -batch", watch, at.routes(*_PROTO, "via", str(load.backup), version=load.version))
    _flush(at, load, *_PROTO)


def bird(at: Place, load: Load, seen: Seen) -> None:
    """Measure BIRD's static and kernel protocols."""
    config, control = at.directory / "bird.conf", at.directory / "bird.ctl"
    config.write_text(_bird_config(load))
    pid = at.start("bird", "-f", "-c", str(config), "-s", str(control), "-P", str(at.directory / "bird.pid"))
    _until(control.exists)
    quiet(pid)
    with time_of(pid) as watch:
        for name in ("half_a", "half_c"):
            at.run("birdc", "-s", str(control), "enable", name)
    seen.add(load, BIRD, watch, at.routes("proto", "bird", version=load.version))
    at.run("birdc", "-s", str(control), "enable", "backup")
    quiet(pid)
    with time_of(pid) as watch:
        at.run("birdc", "-s", str(control), "disable", "half_a")
    seen.half(load, BIRD, watch, at.routes("proto", "bird", "via", str(load.backup), version=load.version))
    at.stop()
    _flush(at, load, "proto", "bird")


def _bird_config(load: Load) -> str:
    """Have a static protocol for each half, and one for what takes over."""
    channel, first = f"ipv{load.version}", load.networks[: load.half]
    halves = (
        ("half_a", load.first, 200, first),
        ("half_c", load.last, 200, load.networks[load.half :]),
        ("backup", load.backup, 100, first),
    )
    return (
        f"router id {BOX};\nprotocol device {{}}\n"
        f"protocol kernel {{ learn off; {channel} {{ import none; export all; }}; }}\n"
        + "".join(
            f"protocol static {name} {{ disabled; {channel} {{ preference {preference}; }};\n"
            + "".join(f"route {network} via {via};\n" for network in part)
            + "}\n"
            for name, via, preference, part in halves
        )
    )


def frr(at: Place, load: Load, seen: Seen) -> None:
    """Measure zebra, fed by bgpd; the feeder speaks of IPv4 alone."""
    if load.version != 4:
        return
    home = at.directory / "frr"
    home.mkdir(exist_ok=True)
    shutil.chown(home, "frr", "frr")
    pids = _frr_start(at, home)
    with at.namespaces.in_namespace(FEEDER):
        first, backup, last = (Feeder(address, BOX, 65001 + n) for n, address in enumerate((A, B, C)))
    quiet(*pids)
    some = [network for network in load.networks if isinstance(network, IPv4Network)]
    with time_of(*pids) as watch:
        first.announce(some[: load.half])
        last.announce(some[load.half :])
    seen.add(load, "FRR, bgpd to zebra", watch, at.routes("proto", "bgp"))
    backup.announce(some[: load.half], detour=2)
    quiet(*pids)
    with time_of(*pids) as watch:
        first.close()
    seen.half(load, "FRR, bgpd to zebra", watch, at.routes("proto", "bgp", "via", B))
    for feeder in (backup, last):
        feeder.close()
    at.stop()
    _flush(at, load, "proto", "bgp")


def _frr_start(at: Place, home: Path) -> list[int]:
    """Start zebra and bgpd; return their ids."""
    peers = "".join(
        f" neighbor {address} remote-as external\n neighbor {address} passive\n"
        f" neighbor {address} prefix-list none out\n"
        for address in (A, B, C)
    )
    (home / "zebra.conf").write_text("")
    (home / "bgpd.conf").write_text(
        f"router bgp 65000\n bgp router-id {BOX}\n no bgp ebgp-requires-policy\n{peers}!\nip prefix-list none deny any\n"
    )
    common = ("-P", "0", "--vty_socket", str(home), "-z", str(home / "zserv.api"), "--log", f"file:{home / 'log'}")
    pids: list[int] = []
    for program in (ZEBRA, BGPD):
        name = program.name
        pids.append(at.start(str(program), "-f", str(home / f"{name}.conf"), "-i", str(home / f"{name}.pid"), *common))
        _until((home / f"{name}.vty").exists)
        quiet(*pids)
    return pids


def _flush(at: Place, load: Load, *words: str) -> None:
    """Remove what is left now, so that the kernel does not do it by itself while others are measured."""
    while at.routes(*words, version=load.version):
        with suppress(subprocess.CalledProcessError):  # a route went by itself meanwhile
            at.run("ip", f"-{load.version}", "route", "flush", *words)


def _until(probe: Callable[[], bool]) -> None:
    """Wait for a daemon that starts."""
    end = time.monotonic() + _WITHIN
    while not probe():
        assert time.monotonic() < end, "a daemon does not start"
        time.sleep(0.05)


def rivals() -> list[Callable[[Place, Load, Seen], None]]:
    """Return who is installed."""
    found: list[Callable[[Place, Load, Seen], None]] = [raw, iproute]
    if shutil.which("bird") and shutil.which("birdc"):
        found.append(bird)
    if ZEBRA.exists() and BGPD.exists():
        found.append(frr)
    return found
