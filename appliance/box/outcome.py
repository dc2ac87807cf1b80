"""A judged seed -> what the box does with it at every boot: files, people, scripts. Pure; called by `appliance.box.record`.

The root file system is in memory, so what a seed says is written again at each boot, without reading the seed again.
What lies on the data partition is written once for each instance: later it is the operator's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from appliance.box import network
from appliance.box.people import DEFAULT_USER, User
from appliance.box.seed import Seed

#: Directories that stay from boot to boot.
KEPT = ("/etc/edgeway/", "/var/lib/edgeway/", "/var/log/journal/")
#: A unit of the image starts the clock's client when this file is there.
CLOCK = "/etc/systemd/timesyncd.conf.d/10-edgeway.conf"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file to write. `kind`: file, append, or link, of which the content is the target."""

    path: str
    content: bytes
    mode: int = 0o644
    owner: str = "root:root"
    kind: str = "file"

    @property
    def once(self) -> bool:
        """Tell whether it stays by itself."""
        return self.path.startswith(KEPT)


def entries(seed: Seed) -> Iterator[Entry]:
    """Yield the files in the order in which they are written: the intent last, when all it needs is there."""
    config = seed.config
    if seed.hostname:
        yield Entry("/etc/hostname", f"{seed.hostname}\n".encode())
        yield Entry("/etc/hosts", hosts(seed.hostname, config.fqdn).encode())
    for user in config.users:
        if keys := user.keys + (seed.keys if user.name == DEFAULT_USER else ()):
            yield Entry(f"/etc/ssh/authorized_keys/{user.name}", "".join(f"{key}\n" for key in keys).encode())
    for file in network.fallback() if seed.network is None else seed.network:
        # networkd is a user of its own; a link's file is read by udev.
        yield Entry(f"/etc/systemd/network/{file.name}", file.text.encode())
    if config.timezone:
        yield Entry("/etc/localtime", f"/usr/share/zoneinfo/{config.timezone}".encode(), kind="link")
    if config.ntp is not None:
        servers = f"NTP={' '.join(config.ntp)}\n" if config.ntp else ""
        yield Entry(CLOCK, f"[Time]\n{servers}".encode())
    for one in config.files:
        yield Entry(one.path, one.content, one.mode, one.owner, "append" if one.append else "file")
    if config.node:
        yield Entry("/etc/edgeway/node", f"{config.node}\n".encode())
    if config.intent:
        yield Entry("/etc/edgeway/intent.yaml", config.intent.encode(), 0o600)


def hosts(name: str, fqdn: str) -> str:
    """Return /etc/hosts."""
    names = f"{fqdn} {name}" if fqdn and fqdn != name else name
    return f"127.0.0.1 localhost\n127.0.1.1 {names}\n::1 localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n"


def people(seed: Seed, hashed: Callable[[str], str]) -> Iterator[str]:
    """Yield a line for each user: name, hash, shell, groups, full name; `hashed` does what crypt(3) does."""
    for user in seed.config.users:
        yield ":".join((user.name, _hash(user, hashed), user.shell, ",".join(user.groups), user.gecos))


def _hash(user: User, hashed: Callable[[str], str]) -> str:
    """Return what stands in /etc/shadow; `*` is no password's hash."""
    if user.password is None:
        return "*"
    return hashed(user.password.text) if user.password.plain else user.password.text
