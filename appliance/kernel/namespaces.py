"""Network namespaces by name: open, enter, make, delete, and hold the sockets that belong to each.

Every kernel port is given one `Namespaces`. It keeps one descriptor and one request socket a protocol for each
namespace, because opening costs ten times what entering costs. A socket keeps its namespace (and the devices in it)
alive after the name is gone, so whoever holds one registers with `on_gone` and closes it when told.

A namespace is ours when its `lo` carries the alias `marks.ALIAS`; the alias is set before the name appears, so a crash
leaves at most an empty file, which the next attempt reuses. Not thread-safe, and `in_namespace` must never be held
across an `await`: the namespace is a property of the thread.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from appliance.kernel import netlink, syscalls
from appliance.model.errors import KernelError
from appliance.model.facts import HOST, Namespace
from appliance.model.marks import ALIAS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DIRECTORY: Final = Path("/run/netns")
SOL_NETLINK, NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 270, 10, 11, 12
SO_RCVBUFFORCE: Final = 33
RECEIVE_BUFFER: Final = 4 << 20
#: struct ifinfomsg of `lo`: its index is 1 in every namespace; the second one also raises IFF_UP.
_LO, _LO_UP = (
    struct.pack("=BxHiII", 0, 0, 1, 0, 0),
    struct.pack("=BxHiII", 0, 0, 1, 1, 1),
)
_RTM_GETLINK, _RTM_SETLINK, _IFLA_IFALIAS, _IFINFO = 18, 19, 20, 16

Identity = tuple[int, int]
T = TypeVar("T")


def _identity(status: os.stat_result) -> Identity:
    """Identify a namespace: its inode number is not reused while a descriptor is open."""
    return (status.st_dev, status.st_ino)


class Namespaces:
    """The namespaces of one node; HOST is the one that the thread which makes this object is in."""

    def __init__(self, directory: Path = DIRECTORY, host: str | Path = "/proc/thread-self/ns/net") -> None:
        """`directory` holds the names; tests and nodes that share a machine use their own."""
        self.directory = directory
        self._fds: dict[Namespace, int] = {HOST: os.open(host, os.O_RDONLY | os.O_CLOEXEC)}
        self._identities: dict[Namespace, Identity] = {HOST: _identity(os.fstat(self._fds[HOST]))}
        self._sockets: dict[tuple[Namespace, int], socket.socket] = {}
        self._owned: dict[tuple[str, int, int, int], bool] = {}
        self._known: set[Namespace] = set()
        self._gone: list[Callable[[Namespace], None]] = []
        self._made: list[Callable[[Namespace], None]] = []

    def on_gone(self, call: Callable[[Namespace], None]) -> None:
        """Have `call` told, at once, when a namespace is about to go or turns out to be gone."""
        self._gone.append(call)

    def on_made(self, call: Callable[[Namespace], None]) -> None:
        """Have `call` told when a namespace of ours has been made or found."""
        self._made.append(call)

    def forget(self, call: Callable[[Namespace], None]) -> None:
        """Undo `on_gone` or `on_made`."""
        for calls in (self._gone, self._made):
            while call in calls:
                calls.remove(call)

    def path(self, name: Namespace) -> Path:
        """Return where the name stands."""
        return self.directory / name

    def exists(self, name: Namespace) -> bool:
        """Tell whether there is such a namespace, ours or not."""
        return name == HOST or self._seen(name) is not None

    def open_ns(self, name: Namespace) -> int:
        """Return a descriptor of the namespace, kept here: do not close it.

        One that does not exist is the error of a device that does not exist (yet): trying again can help.
        """
        if name == HOST:
            return self._fds[HOST]
        seen = self._seen(name)
        if seen is not None and self._identities.get(name) == _identity(seen):
            return self._fds[name]
        if seen is None or name in self._fds:
            self.invalidate(name)
        if seen is None:
            raise KernelError("namespace", name, errno.ENODEV)
        fd = os.open(self.path(name), os.O_RDONLY | os.O_CLOEXEC)
        self._fds[name], self._identities[name] = fd, _identity(os.fstat(fd))
        return fd

    @contextmanager
    def in_namespace(self, name: Namespace) -> Iterator[None]:
        """Be in the namespace with this thread; sockets made inside belong there. Never across an `await`."""
        target = self.open_ns(name)
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.setns(target)
            try:
                yield
            finally:
                syscalls.setns(back)
        finally:
            os.close(back)

    def netlink_socket(self, protocol: int, name: Namespace) -> socket.socket:
        """Return the shared request socket of a namespace: blocking, one whole exchange at a time, not to be closed."""
        self.open_ns(name)
        made = self._sockets.get((name, protocol))
        if made is None:
            made = self._sockets[name, protocol] = self.new_netlink_socket(protocol, name)
        return made

    def new_netlink_socket(self, protocol: int, name: Namespace) -> socket.socket:
        """Make a netlink socket that is the caller's: for multicast groups. Close it when `on_gone` says so."""
        with self.in_namespace(name):
            made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK):
            made.setsockopt(SOL_NETLINK, option, 1)
        if protocol == socket.NETLINK_ROUTE:
            made.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        made.bind((0, 0))
        return made

    def names(self) -> set[Namespace]:
        """Return the names of the namespaces that are ours, without HOST; let go of those that are not there."""
        found: set[Namespace] = set()
        with suppress(FileNotFoundError):
            found = {name for entry in self.directory.iterdir() if self._is_ours(name := Namespace(entry.name))}
        for name in (self._fds.keys() | self._known) - found - {HOST}:
            self.invalidate(name)
        for name in found - self._known:
            self._announce(name)
        return found

    def each(self, look: Callable[[Namespace], T]) -> dict[Namespace, T]:
        """Look into HOST and every namespace of ours; one that goes away meanwhile is not there."""
        seen: dict[Namespace, T] = {}
        for name in (HOST, *self.names()):
            try:
                seen[name] = look(name)
            except (KernelError, OSError):
                if self.exists(name):
                    raise
        return seen

    def create(self, name: Namespace) -> None:
        """Make a namespace with `lo` up and marked; one that is there already and ours is left alone."""
        if self._is_ours(name):
            return
        if self._seen(name) is not None:
            raise KernelError("namespace", name, errno.EEXIST)
        try:
            self._prepare_directory()
            self._make(self.path(name))
        except OSError as error:
            raise KernelError("namespace", name, error.errno or errno.EIO) from error
        self._announce(name)

    def delete(self, name: Namespace) -> None:
        """Delete a namespace of ours; one that is absent or foreign is left alone."""
        if not self._is_ours(name):
            return
        self.invalidate(name)
        try:
            syscalls.umount(self.path(name))
            self.path(name).unlink(missing_ok=True)
        except OSError as error:
            raise KernelError("namespace", name, error.errno or errno.EIO) from error

    def invalidate(self, name: Namespace) -> None:
        """Close everything that is held of a namespace."""
        if name == HOST:
            return
        if name in self._known:
            self._known.discard(name)
            for call in tuple(self._gone):
                call(name)
        for key in [key for key in self._sockets if key[0] == name]:
            self._sockets.pop(key).close()
        if name in self._fds:
            del self._identities[name]
            os.close(self._fds.pop(name))

    def identity(self, name: Namespace) -> Identity:
        """Return what tells this namespace from every other, also from an earlier one of the same name."""
        self.open_ns(name)
        return self._identities[name]

    def close(self) -> None:
        """Release every descriptor; the namespaces stay."""
        for name in (*self._fds, *self._known):
            self.invalidate(name)
        for made in self._sockets.values():
            made.close()
        self._sockets.clear()
        os.close(self._fds.pop(HOST))

    def _announce(self, name: Namespace) -> None:
        """Tell who wants to know that there is one more namespace of ours."""
        self._known.add(name)
        for call in tuple(self._made):
            call(name)

    def _seen(self, name: Namespace) -> os.stat_result | None:
        """Look at the name; a plain file (half-made by somebody who died) is not a namespace."""
        try:
            status = self.path(name).stat()
        except OSError:
            return None
        return status if status.st_dev == self._identities[HOST][0] else None

    def _is_ours(self, name: Namespace) -> bool:
        """Tell whether `lo` in there carries our alias; asked once for each namespace."""
        seen = self._seen(name)
        if seen is None:
            return False
        key = (name, seen.st_dev, seen.st_ino, seen.st_ctime_ns)
        if key not in self._owned:
            self._owned[key] = self._alias(name) == ALIAS
        return self._owned[key]

    def _alias(self, name: Namespace) -> str:
        """Return the alias of `lo`."""
        found = netlink.get(
            self.netlink_socket(socket.NETLINK_ROUTE, name),
            netlink.Message(_RTM_GETLINK, _LO),
        )
        if isinstance(found, netlink.Answer):
            raise KernelError("namespace", name, found.errno)
        alias = netlink.parse(found[_IFINFO:]).get(_IFLA_IFALIAS)
        return "" if alias is None else netlink.to_text(alias)

    def _prepare_directory(self) -> None:
        """Make the directory a shared mount, as iproute2 does, so that a name deleted here is gone everywhere."""
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        try:
            syscalls.mount("", self.directory, syscalls.MS_SHARED | syscalls.MS_REC)
        except OSError:
            syscalls.mount(self.directory, self.directory, syscalls.MS_BIND | syscalls.MS_REC)
            syscalls.mount("", self.directory, syscalls.MS_SHARED | syscalls.MS_REC)

    def _make(self, path: Path) -> None:
        """Make, mark and then name a namespace."""
        path.touch(mode=0o444)
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.unshare_net()
            try:
                self._mark_loopback()
                syscalls.mount("/proc/thread-self/ns/net", path, syscalls.MS_BIND)
            finally:
                syscalls.setns(back)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(back)

    @staticmethod
    def _mark_loopback() -> None:
        """Put our alias on `lo` of the namespace that this thread is in, and bring it up."""
        with socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_CLOEXEC,
            socket.NETLINK_ROUTE,
        ) as link:
            mark = netlink.Message(_RTM_SETLINK, _LO_UP + netlink.text(_IFLA_IFALIAS, ALIAS))
            if code := netlink.batch(link, [mark])[0].errno:
                raise OSError(code, os.strerror(code))
