"""BIRD as if it were an engine of ours: the scenarios are proved against it before an engine is judged by them.

Selected by EDGEWAY_ENGINES=bird; never part of the product. Policy becomes filters that write the number of the reason
into an attribute of their own before they reject, and `import keep filtered` keeps what they rejected.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from routing.bgp.values import (
    Address,
    Announcement,
    ExportPolicy,
    Family,
    Mode,
    Neighbor,
    Network,
    PrefixRule,
    Reason,
    Speaker,
)
from routing.engines.engine import Best, Event, RouteView, SessionState, SessionView, Synced
from tests.support.routers.bird import Entry, parse_entries
from tests.support.waiting import eventually_async

_POLL = 0.2


class BirdReference:
    """One BIRD process in the namespace of the calling thread."""

    def __init__(self, directory: Path) -> None:
        """Remember the directory."""
        self.directory = directory
        self.speaker: Speaker | None = None
        self._process: subprocess.Popen[bytes] | None = None

    async def apply(self, speaker: Speaker) -> None:
        """Start BIRD, or let it reconfigure."""
        self.speaker = speaker
        (self.directory / "bird.conf").write_text(configuration(speaker, self.directory))
        if self._process is None:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - starting takes a moment only
                ["bird", "-f", "-c", "bird.conf", "-s", "control", "-P", "pid"],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=(self.directory / "out").open("wb"),
                stderr=subprocess.STDOUT,
            )
            await eventually_async(self._answers, what=(self.directory / "out").read_text())
        else:
            answer = self._birdc("configure")
            if "Reconfigur" not in answer or "error" in answer:
                raise OSError(answer)

    async def sessions(self) -> tuple[SessionView, ...]:
        """Read `show protocols all`."""
        return tuple(
            self._session(block) for block in self._birdc("show protocols all").split("\n\n") if " BGP " in block
        )

    async def routes(self, prefix: Network | None = None, neighbor: str | None = None) -> tuple[RouteView, ...]:
        """Read accepted and filtered routes."""
        entries = [
            (entry, reason)
            for command, reason in (("show route table all all", False), ("show route filtered table all all", True))
            for entry in parse_entries(self._birdc(command))
        ]
        for entry, _ in entries:
            entry.fields.setdefault("next_hop", ("", "0.0.0.0"))  # own announcements have none
        views = [self._route(entry, refused=refused) for entry, refused in entries if "origin" in entry.fields]
        return tuple(v for v in views if prefix in (None, v.prefix) and neighbor in (None, v.neighbor))

    async def watch(self, *, routes: bool = True) -> AsyncIterator[tuple[Event, ...]]:
        """Poll and tell the differences."""
        known: dict[Network, Best] = {}
        synced: tuple[Event, ...] = (Synced(),)
        while True:
            now = {v.prefix: Best(v.prefix, v.attributes, v.neighbor) for v in await self.routes() if v.best}
            gone = tuple(Best(prefix, None) for prefix in known.keys() - now.keys())
            yield (*(best for prefix, best in now.items() if known.get(prefix) != best), *gone, *synced)
            known, synced = now, ()
            await asyncio.sleep(_POLL)

    async def close(self, *, stop: bool) -> None:
        """End the process."""
        if stop and self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGTERM)
            self._process.wait()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self._birdc("show status"))
        return False

    def _birdc(self, command: str) -> str:
        done = subprocess.run(
            ["birdc", "-s", str(self.directory / "control"), *command.split()],
            capture_output=True,
            text=True,
            check=False,
        )
        if "ready." not in done.stdout:
            raise OSError(done.stdout + done.stderr + (self.directory / "out").read_text())
        return done.stdout.split("ready.\n", 1)[1]

    def _session(self, block: str) -> SessionView:
        words = block.splitlines()[0].split()
        fields = dict(line.strip().split(":", 1) for line in block.splitlines()[1:] if ":" in line)
        state = SessionState.ESTABLISHED if words[-1] == "Established" else SessionState.ACTIVE
        address = fields.get("Neighbor address", "0.0.0.0").strip()
        name = self._neighbor_name(words[0])
        counts = [sum(map(int, re.findall(rf"(\d+) {word}", block))) for word in ("imported", "filtered", "exported")]
        peer, asn = ip_address(address.split("%")[0]), int(fields.get("Neighbor AS", "0"))
        return SessionView(name, peer, asn, state, (), None, counts[0] + counts[1], counts[0], counts[2])

    def _neighbor_name(self, protocol: str) -> str:
        assert self.speaker is not None
        names = {f"n_{_word(neighbor.name)}": neighbor.name for neighbor in self.speaker.neighbors}
        return names.get(protocol, protocol)

    def _route(self, entry: Entry, *, refused: bool) -> RouteView:
        assert self.speaker is not None
        name = "local" if entry.protocol.startswith("static") else self._neighbor_name(entry.protocol)
        reason = Reason(int(entry.fields.get("reason", ("", "8"))[1])) if refused else None
        attributes = entry.attributes
        if any(n.name == name and n.asn != self.speaker.asn for n in self.speaker.neighbors):
            attributes = replace(attributes, local_pref=None)  # BIRD gave it
        return RouteView(entry.prefix, name, None, attributes, entry.best and not refused, reason)


def configuration(speaker: Speaker, directory: Path) -> str:
    """Write the speaker in BIRD's language."""
    head = [f"router id {speaker.router_id};", f'log "{directory}/log" all;', "attribute int reason;"]
    head += ["ipv4 table t4 sorted;", "ipv6 table t6 sorted;", "protocol device {}", "protocol direct { ipv4; ipv6; }"]
    for version in (4, 6):
        own = [a for a in speaker.announcements if a.prefix.version == version]
        head += [f"protocol static static{version} {{ ipv{version} {{ table t{version}; }};", *map(_static, own), "}"]
    return "\n".join([*head, *(_neighbor(speaker, neighbor) for neighbor in speaker.neighbors), ""])


def _word(name: str) -> str:
    return name.replace("-", "_")


def _static(own: Announcement) -> str:
    hop = f"bgp_next_hop = {own.next_hop};" if own.next_hop else ""
    med = f"bgp_med = {own.med};" if own.med is not None else ""
    sets = "".join(f"bgp_community.add(({a},{b}));" for a, b in own.communities)
    sets += "".join(f"bgp_large_community.add(({a},{b},{c}));" for a, b, c in own.large_communities)
    return f" route {own.prefix} blackhole {{ bgp_origin = ORIGIN_IGP; {hop} {med} {sets} }};"


def _neighbor(speaker: Speaker, neighbor: Neighbor) -> str:
    peer = f"range {neighbor.range}" if neighbor.range else str(neighbor.address)
    external = neighbor.asn != speaker.asn
    local = neighbor.local_address or _local(speaker, neighbor.address or neighbor.range.network_address)  # type: ignore[union-attr] # one of both is given
    options = {
        Mode.TRANSPARENT: "rs client;",
        Mode.REFLECTOR: f"rr client; rr cluster id {speaker.router_id};",
        Mode.ROUTER: "",
    }[speaker.mode]
    loop = "allow local as 10;" if external else ""
    restart = f"on; graceful restart time {neighbor.restart_time}" if neighbor.restart_time else "off"
    passive = "passive;" if neighbor.passive or neighbor.range else ""
    return (
        f"protocol bgp n_{_word(neighbor.name)} {{ local {local} as {speaker.asn}; neighbor {peer} as {neighbor.asn};\n"
        f" direct; {options} {loop} {passive} interpret communities off; connect delay time 1; connect retry time 1;\n"
        f" error wait time 1, 2; graceful restart {restart}; hold time {neighbor.hold_time};\n"
        + "".join(_channel(speaker, neighbor, family) for family in neighbor.families)
        + "}"
    )


def _local(speaker: Speaker, peer: Address) -> Address:
    return next(address for address in speaker.listen if address.version == peer.version)


def _channel(speaker: Speaker, neighbor: Neighbor, family: Family) -> str:
    version = 4 if family is Family.IPV4 else 6
    hop = "next hop self ebgp;" if neighbor.next_hop_self else ""
    if speaker.mode is not Mode.ROUTER:
        hop = "next hop keep;"
    extended = "extended next hop on;" if neighbor.extended_next_hop and version == 4 else ""
    limit = f"import limit {neighbor.imports.max_prefixes} action block;" if neighbor.imports.max_prefixes else ""
    return (
        f" ipv{version} {{ table t{version}; secondary; import table; import keep filtered; {hop} {extended} {limit}\n"
        f"  import filter {{ {_import(speaker, neighbor, version)} accept; }};\n"
        f"  export filter {{ {_export(neighbor.exports, version)} reject; }};\n }};\n"
    )


def _prefixes(rules: Iterable[PrefixRule], version: int) -> str:
    found = [f"{r.network}{{{r.min_length},{r.max_length}}}" for r in rules if r.network.version == version]
    return f"[ {', '.join(found)} ]" if found else ""


def _import(speaker: Speaker, neighbor: Neighbor, version: int) -> str:
    policy = neighbor.imports
    never, accept = _prefixes(policy.never, version), _prefixes(policy.accept, version)
    forbidden = ", ".join(map(str, (0, *policy.forbidden_as)))
    hops = " || ".join(f"bgp_next_hop ~ {network}" for network in policy.next_hops)
    tests = [
        (Reason.BOGON, f"net ~ {never}" if never else "false"),
        (Reason.NOT_OWNED if policy.accept else Reason.NO_POLICY, f"! (net ~ {accept})" if accept else "true"),
        (Reason.AS_SET, "bgp_path.len > 0 && bgp_path.last = 0" if policy.refuse_as_set else "false"),
        (Reason.FIRST_AS, f"bgp_path.first != {policy.first_as}" if policy.first_as else "false"),
        (Reason.FORBIDDEN_AS, f"bgp_path ~ [ {forbidden} ]"),
        (Reason.AS_LOOP, f"bgp_path ~ [ {speaker.asn} ]"),
        (Reason.PATH_TOO_LONG, f"bgp_path.len > {policy.max_path_length}"),
        (Reason.NEXT_HOP, f"! ({hops})" if hops else "false"),
    ]
    return "\n   ".join(f"if {test} then {{ reason = {reason.value}; reject; }}" for reason, test in tests)


def _export(policy: ExportPolicy, version: int) -> str:
    never, accept = _prefixes(policy.never, version), _prefixes(policy.accept, version)
    # BIRD takes the MED away on its way to another AS unless the export filter itself has set it.
    own = "if source = RTS_STATIC && defined(bgp_med) then bgp_med = bgp_med; "
    return (
        own
        + (f"if net ~ {never} then reject; " if never else "")
        + (f"if net ~ {accept} then accept;" if accept else "")
    )
