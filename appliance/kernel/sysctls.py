"""The port of `Sysctl` facts: values below /proc/sys, in the namespace they belong to.

An exception to law 1 of `port`: the kernel does not tell who set a value, so only the names this process has been told
about (by `attend`, or by a plan) are read, and deleting one means not attending to it any more: its value stays. Call
`attend` with what is desired before reading, so that a restarted process finds right values right.

/proc/sys/net shows the namespace of whoever opens the file, so files are opened from inside.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.kernel.port import Failure
from appliance.kernel.watching import LINK, watch_route
from appliance.model.errors import KernelError
from appliance.model.facts import Namespace, Sysctl

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from appliance.kernel.namespaces import Namespaces
    from appliance.state.diff import Plan

_ROOT: Final = Path("/proc/sys")
#: net.FAMILY.(conf|neigh).DEVICE.NAME: a missing file there means a missing device.
_DEVICE_PARTS: Final = 5
#: Below this a missing file means that br_netfilter is not loaded: then nothing is shown to netfilter, as with "0".
_BRIDGED: Final = "net.bridge."
_OFF: Final = "0"


def path(name: str) -> Path:
    """Return the file of a dotted name, in which a slash stands for a dot in a device's name."""
    return _ROOT.joinpath(*(part.replace("/", ".") for part in name.split(".")))


def same(one: str, other: str) -> bool:
    """Compare values as the kernel does: it writes tabs between numbers."""
    return one.split() == other.split()


class SysctlsPort:
    """Per-namespace sysctls that were asked for."""

    def __init__(self, namespaces: Namespaces) -> None:
        """Attend to nothing yet."""
        self.namespaces = namespaces
        self._wanted: dict[tuple[Namespace, str], str] = {}

    def attend(self, desired: Iterable[Sysctl]) -> None:
        """Be told what is wanted, all of it, so that `read` looks there."""
        self._wanted.update({(fact.ns, fact.name): fact.value for fact in desired})

    def read(self) -> frozenset[Sysctl]:
        """Return the values of the names attended to; one equal to what is wanted is given in the same words."""
        found: set[Sysctl] = set()
        for ns, names in self._by_namespace().items():
            with suppress(KernelError), self.namespaces.in_namespace(ns):
                found.update(fact for name in names if (fact := self._read(ns, name)) is not None)
        return frozenset(found)

    def apply(self, plan: Plan[Sysctl]) -> tuple[Failure, ...]:
        """Write values; forget those to delete."""
        failures = []
        for change in plan.changes:
            fact = change.fact
            if change.operation == "delete":
                self._wanted.pop((fact.ns, fact.name), None)
                continue
            self._wanted[fact.ns, fact.name] = fact.value
            try:
                self._write(fact)
            except KernelError as error:
                failures.append(Failure(fact, error))
        return tuple(failures)

    def watch(self) -> AsyncIterator[str]:
        """Yield when devices come and go, for they bring default values with them; the kernel tells no more."""
        return watch_route(self.namespaces, (LINK,), "sysctl")

    def close(self) -> None:
        """Nothing is held."""

    def _read(self, ns: Namespace, name: str) -> Sysctl | None:
        """Read one value, here in its namespace; None if there is no such file."""
        try:
            value = path(name).read_text().rstrip("\n")
        except FileNotFoundError:
            return Sysctl(ns, name, _OFF) if name.startswith(_BRIDGED) else None
        except OSError:
            return None
        wanted = self._wanted[ns, name]
        return Sysctl(ns, name, wanted if same(value, wanted) else value)

    def _by_namespace(self) -> dict[Namespace, list[str]]:
        """Group the names attended to."""
        grouped: dict[Namespace, list[str]] = {}
        for ns, name in self._wanted:
            grouped.setdefault(ns, []).append(name)
        return grouped

    def _write(self, fact: Sysctl) -> None:
        """Write one value."""
        what = f"{fact.ns} {fact.name}={fact.value}"
        with self.namespaces.in_namespace(fact.ns):
            try:
                path(fact.name).write_text(fact.value)
            except FileNotFoundError as error:
                if fact.name.startswith(_BRIDGED) and fact.value == _OFF:
                    return
                of_device = len(fact.name.split(".")) == _DEVICE_PARTS
                raise KernelError("sysctl", what, errno.ENODEV if of_device else errno.ENOENT) from error
            except OSError as error:
                raise KernelError("sysctl", what, error.errno or errno.EIO) from error
