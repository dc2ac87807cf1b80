"""What the ports of facts that are one tc program on the ingress of a device share: find it, read it, attach it, take it off.

Nothing is pinned: a program is found by the name of its filter. Called by `compose` and `wires`, which say what a program
means as a fact, and how one is made for a fact.
"""

from __future__ import annotations

import errno
import hashlib
import socket
from abc import ABC, abstractmethod
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Generic, TypeVar

from appliance.kernel import tc
from appliance.kernel.exchanges import Netlink
from appliance.kernel.libbpf import Program
from appliance.kernel.netlink import NETLINK_ROUTE
from appliance.kernel.port import Failure
from appliance.kernel.watching import LINK, watch_route
from appliance.model.errors import KernelError
from appliance.model.facts import HOST, Compose, Namespace, Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from appliance.kernel.namespaces import Namespaces
    from appliance.state.diff import Plan

F = TypeVar("F", Compose, Wire)


@lru_cache(maxsize=4)
def _digest(path: Path, _changed: int) -> bytes:
    """Return what tells one build from another."""
    return hashlib.blake2b(path.read_bytes(), digest_size=12).digest()


def build(path: Path) -> bytes:
    """Return the digest of the object file; zeros while it is not built."""
    try:
        return _digest(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return bytes(12)


class TcPort(ABC, Generic[F]):
    """Programs of one kind on the devices of a node."""

    def __init__(self, namespaces: Namespaces, subsystem: str, name: str, path: Path) -> None:
        """`subsystem` is the word of errors, `name` that of the filter, `path` the compiled program."""
        self.namespaces, self._subsystem, self._name, self._path = namespaces, subsystem, name, path
        self._netlink = Netlink(namespaces, NETLINK_ROUTE, subsystem)

    @abstractmethod
    def _fact(self, ns: Namespace, link: str, program: Program) -> F:
        """Return what a program does."""

    @abstractmethod
    def _put(self, fact: F) -> None:
        """Have a program do this."""

    def read(self) -> frozenset[F]:
        """Return what hangs on devices now."""
        return frozenset(fact for ns in (HOST, *self.namespaces.names()) for fact in self._read_one(ns))

    def apply(self, plan: Plan[F]) -> tuple[Failure, ...]:
        """Attach, change or take off."""
        failures = []
        for change in plan.changes:
            fact = change.fact
            try:
                if change.new is None:
                    self._drop(fact)
                else:
                    self._put(change.new)
            except KernelError as error:
                failures.append(Failure(fact, error))
            except OSError as error:
                what = f"{fact.ns}/{fact.link}: {error.strerror or error}"
                failures.append(Failure(fact, KernelError(self._subsystem, what, error.errno or errno.EIO)))
        return tuple(failures)

    def watch(self) -> AsyncIterator[str]:
        """Yield when devices or filters change: a device that is made anew, or moves, has lost its program."""
        return watch_route(self.namespaces, (LINK, tc.TC), self._subsystem)

    def close(self) -> None:
        """Nothing is held."""

    def _read_one(self, ns: Namespace) -> list[F]:
        """Read one namespace."""
        found = []
        for hook in tc.hooks(self._netlink, ns, self._name):
            with suppress(OSError):  # it went meanwhile
                with self.namespaces.in_namespace(ns):
                    link = socket.if_indextoname(hook.index)
                with Program.by_id(hook.program) as program:
                    found.append(self._fact(ns, link, program))
        return found

    def _index(self, ns: Namespace, link: str) -> int:
        """Return the index of a device; KernelError ENODEV if it is not there."""
        try:
            with self.namespaces.in_namespace(ns):
                return socket.if_nametoindex(link)
        except OSError as error:
            raise KernelError(self._subsystem, f"{ns}/{link}", errno.ENODEV) from error

    def _hook(self, ns: Namespace, index: int) -> tc.Hook | None:
        """Return what hangs on a device already."""
        return next((hook for hook in tc.hooks(self._netlink, ns, self._name) if hook.index == index), None)

    def _drop(self, fact: F) -> None:
        """Take the program off; without device or program there is nothing to do."""
        try:
            hook = self._hook(fact.ns, self._index(fact.ns, fact.link))
        except KernelError as error:
            if error.errno == errno.ENODEV:
                return
            raise
        if hook is not None:
            tc.detach(self._netlink, fact.ns, hook)

    def _require_built(self) -> None:
        """Refuse to go on without the object file."""
        if not self._path.exists():
            raise KernelError(self._subsystem, f"{self._path} is not built: run `make setup`", errno.ENOENT)

    def _misfit(self) -> KernelError:
        """Say that the object file is of another layout."""
        return KernelError(self._subsystem, f"{self._path} has other maps: run `make setup`", errno.EINVAL)
