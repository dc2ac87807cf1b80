"""What the foreign routers of the tests have in common: they announce routes and tell what they received.

A router is a real daemon in a member of a `Lan`, in a private directory. What it received comes back as
`prefix -> Attributes`, normalised by `normal` so that two daemons that say the same thing differently compare equal;
what a daemon's own view cannot tell apart is removed from the expectation by `Router.as_seen`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from typing import Self

from routing.bgp.values import Address, Attributes, Family, Network, Segment, SegmentType
from tests.support.lan import Lan

Table = Mapping[Network, Attributes]

# RFC 4271 4.3: PARTIAL may be set by anybody on the way, EXTENDED_LENGTH says how the length was written.
_STABLE_FLAGS = 0xC0
_WELL_KNOWN = {
    "gracefulshutdown": 0xFFFF0000,
    "blackhole": 0xFFFF029A,
    "llgrstale": 0xFFFF0006,
    "nollgr": 0xFFFF0007,
    "noexport": 0xFFFFFF01,
    "noadvertise": 0xFFFFFF02,
    "localas": 0xFFFFFF03,
    "noexportsubconfed": 0xFFFFFF03,
    "nopeer": 0xFFFFFF04,
}
# Thousands of routes share hundreds of attribute sets.
_MEMORY = 16384
_AS_MAX_16 = 0xFFFF
_EXTENDED_SUBTYPE = {"rt": 0x02, "ro": 0x03, "soo": 0x03}


@dataclass(frozen=True, slots=True)
class Route:
    """A route to announce, with the attributes exactly as they are to be on the wire."""

    prefix: Network
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Link:
    """One session of a router with the speaker under test. `restart_time` > 0 turns graceful restart on.

    `role` is the router's own (RFC 9234), in BIRD's words, which alone heeds it.
    """

    server: Address
    server_asn: int
    local: Address
    families: tuple[Family, ...]
    extended_next_hop: bool = False
    restart_time: int = 0
    role: str = ""


class Router(ABC):
    """A daemon beside the speaker under test; `with` starts and always ends it."""

    # A route is compared with what this daemon shows: these fields it does not show at all.
    hidden: frozenset[str] = frozenset()

    def __init__(self, lan: Lan, member: str, asn: int, links: Iterable[Link], routes: Iterable[Route] = ()) -> None:
        """Remember the place on the LAN, the sessions and the routes to announce."""
        self.lan, self.member, self.asn = lan, member, asn
        self.links = tuple(links)
        self.routes = tuple(routes)
        self.router_id: IPv4Address = lan.ipv4(member)
        self.directory = Path(tempfile.mkdtemp(prefix=f"ewt-{member}-"))
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        """Start the daemon."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the daemon and forget its directory."""
        self.close()

    def close(self) -> None:
        """End the daemon and forget its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self) -> None:
        """End the daemon as a crash would: SIGKILL to everything it is, no NOTIFICATION."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._processes:
            process.wait()
        self._processes.clear()

    def as_seen(self, attributes: Attributes, link: Link) -> Attributes:
        """Return what this daemon shows after `attributes` came over `link` just so."""
        return _as_seen(attributes, self.hidden, link.server_asn != self.asn)

    @abstractmethod
    def start(self) -> None:
        """Start the daemon with the routes of the moment."""

    @abstractmethod
    def announce(self, *routes: Route) -> None:
        """Announce exactly these routes from now on, without disturbing a session."""

    def received(self, link: Link) -> dict[Network, Attributes]:
        """Return what came over a session, whether it is used or not.

        LOCAL_PREF from an eBGP neighbour is not looked at: daemons show the value they gave the route themselves.
        """
        found = self.table(link)
        if link.server_asn == self.asn:
            return found
        return {prefix: _without_local_pref(attributes) for prefix, attributes in found.items()}

    @abstractmethod
    def table(self, link: Link) -> dict[Network, Attributes]:
        """Return the daemon's view of what came over a session."""

    @abstractmethod
    def count(self, link: Link) -> int:
        """Return how many routes came over a session, quickly: waiting must not cost the machine more than working."""

    @abstractmethod
    def incarnation(self, link: Link) -> str | None:
        """Return a word that changes when the session is established anew; None: it is not established."""

    def established(self, *links: Link) -> bool:
        """Tell whether the given (or all) sessions are established."""
        return all(self.incarnation(link) is not None for link in links or self.links)

    def log(self) -> str:
        """Return the daemon's own words, for a failure message."""
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def spawn(self, *argv: str, env: Mapping[str, str] | None = None) -> None:
        """Run a foreground process in the member's namespace, in a process group of its own."""
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                self.lan.inside(self.member, *argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=None if env is None else os.environ | dict(env),
                start_new_session=True,
            )
        self._processes.append(process)

    def ask(self, *argv: str) -> str:
        """Run a command of the daemon's own client and return what it says."""
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
        if done.returncode:
            msg = f"{' '.join(argv)}: {done.stdout} {done.stderr}\n{self.log()}"
            raise OSError(msg)
        return done.stdout


@lru_cache(maxsize=_MEMORY)
def _as_seen(attributes: Attributes, hidden: frozenset[str], external: bool) -> Attributes:
    seen = normal(attributes)
    if external:
        seen = replace(seen, local_pref=None)
    if "zero_med" in hidden:
        seen = replace(seen, med=seen.med or None)
    return replace(seen, unknown=()) if "unknown" in hidden else seen


@lru_cache(maxsize=_MEMORY)
def _without_local_pref(attributes: Attributes) -> Attributes:
    return replace(attributes, local_pref=None)


@lru_cache(maxsize=_MEMORY)
def parse_address(text: str) -> Address:
    """Parse an address; the same ones come again and again."""
    return ip_address(text)


@lru_cache(maxsize=_MEMORY)
def parse_network(text: str) -> Network:
    """Parse a prefix; the same ones come again and again."""
    return ip_network(text)


@lru_cache(maxsize=_MEMORY)
def normal(attributes: Attributes) -> Attributes:
    """Return equal attributes for equal meaning: sets sorted, runs of sequences joined, volatile flags removed."""
    return replace(
        attributes,
        as_path=join(attributes.as_path),
        communities=tuple(sorted(set(attributes.communities))),
        large_communities=tuple(sorted(set(attributes.large_communities))),
        extended_communities=tuple(sorted(set(attributes.extended_communities))),
        unknown=tuple(
            sorted((replace(u, flags=u.flags & _STABLE_FLAGS) for u in attributes.unknown), key=lambda u: u.code)
        ),
    )


def join(path: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """Join neighbouring sequences (a long path is split every 255 ASes) and sort the sets."""
    joined: list[Segment] = []
    for segment in path:
        if segment.type is SegmentType.SET:
            joined.append(Segment(segment.type, tuple(sorted(segment.asns))))
        elif joined and joined[-1].type is SegmentType.SEQUENCE:
            joined[-1] = Segment(segment.type, joined[-1].asns + segment.asns)
        else:
            joined.append(segment)
    return tuple(joined)


def sequence(*asns: int) -> tuple[Segment, ...]:
    """Return the path of one AS_SEQUENCE."""
    return (Segment(SegmentType.SEQUENCE, asns),) if asns else ()


def parse_path(text: str) -> tuple[Segment, ...]:
    """Parse `65001 4200000001 {3 4}` in any daemon's punctuation."""
    segments: list[Segment] = []
    for in_set, run in re.findall(r"\{([^}]*)\}|([\d\s]+)", text):
        asns = tuple(int(word) for word in re.findall(r"\d+", in_set or run))
        if asns:
            segments.append(Segment(SegmentType.SET if in_set else SegmentType.SEQUENCE, asns))
    return join(tuple(segments))


def parse_community(word: str) -> tuple[int, int]:
    """Parse `65001:7` or the name of a well-known community in any daemon's spelling."""
    if ":" in word:
        high, low = word.split(":")
        return int(high), int(low)
    value = _WELL_KNOWN[re.sub(r"[^a-z]", "", word.lower())]
    return value >> 16, value & 0xFFFF


def parse_large(word: str) -> tuple[int, int, int]:
    """Parse `4200000001:1:2`."""
    first, second, third = (int(part) for part in word.split(":"))
    return first, second, third


def extended(kind: str, administrator: str, value: int) -> bytes:
    """Return the octets of a route target or route origin (RFC 4360 3; RFC 5668): `extended("rt", "65001", 9)`."""
    subtype = _EXTENDED_SUBTYPE[kind.lower()]
    if "." in administrator:
        return bytes((0x01, subtype)) + IPv4Address(administrator).packed + value.to_bytes(2, "big")
    asn = int(administrator)
    if asn > _AS_MAX_16:
        return bytes((0x02, subtype)) + asn.to_bytes(4, "big") + value.to_bytes(2, "big")
    return bytes((0x00, subtype)) + asn.to_bytes(2, "big") + value.to_bytes(4, "big")


def difference(expected: Table, got: Table) -> list[str]:
    """Return one line per prefix that is missing, foreign or has a field that differs."""
    lines = [f"{prefix}: missing" for prefix in expected.keys() - got.keys()]
    lines += [f"{prefix}: not expected, has {got[prefix]}" for prefix in got.keys() - expected.keys()]
    for prefix in expected.keys() & got.keys():
        if expected[prefix] == got[prefix]:
            continue
        for field in fields(Attributes):
            wanted, found = getattr(expected[prefix], field.name), getattr(got[prefix], field.name)
            if wanted != found:
                lines.append(f"{prefix}: {field.name}: expected {wanted}, got {found}")
    return sorted(lines)
