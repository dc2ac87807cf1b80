"""Give up root: after this the process can neither get back what it had nor be looked into by others of its user.

Called once by the engine's process when its sockets are bound and its files open; it reads what strangers send. The user is
`edgeway` where the machine has one, else `nobody`. What a later mistake could use is taken as well: supplementary groups,
capabilities and the way to new ones, core files, ptrace. Who is not root stays who it is, as in a unit of systemd.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
from dataclasses import dataclass
from typing import Final

from routing.engines.native.log import log

USERS: Final = ("edgeway", "nobody")
# linux/prctl.h
_SET_DUMPABLE, _CAPBSET_DROP, _SET_NO_NEW_PRIVS, _CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL = 4, 24, 38, 47, 4
# linux/capability.h: version 3 has two words of 32 capabilities in each of three sets.
_CAPABILITY_VERSION_3, _SETS = 0x20080522, 6


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the machine."""

    name: str
    uid: int
    gid: int


def account(users: tuple[str, ...] = USERS) -> Account | None:
    """Return the first of the users that exists; None if we are not root, and so stay who we are."""
    if os.geteuid() != 0:
        return None
    for name in users:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, found.pw_uid, found.pw_gid)
    raise OSError(f"there is no unprivileged user on this machine: {' or '.join(users)}")


def give_up(who: Account | None) -> None:
    """Become this user for good. OSError if that is not to be had: what serves strangers must not run as root."""
    libc = ctypes.CDLL(None, use_errno=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(libc, _SET_NO_NEW_PRIVS, 1)
    # As long as that is allowed.
    _empty_bounding_set(libc)
    if who is None:
        log("privileges-kept", uid=os.geteuid())
    else:
        os.setgroups([])
        os.setresgid(who.gid, who.gid, who.gid)
        os.setresuid(who.uid, who.uid, who.uid)
    # What a service manager gave us to bind with goes too.
    _prctl(libc, _CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL)
    header, none = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * _SETS)()
    _check(libc.capset(header, none), "capset")
    # A change of user makes it so already, unless the machine says otherwise (fs.suid_dumpable).
    _prctl(libc, _SET_DUMPABLE, 0)
    os.umask(0o077)
    if who is not None:
        log("privileges-given-up", user=who.name, uid=who.uid)


def _empty_bounding_set(libc: ctypes.CDLL) -> None:
    """Drop every capability that the kernel knows from what an executed file could give."""
    for capability in range(64):
        if libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0):
            # EINVAL: there are no more. EPERM: an honest container took the right to do so, and no_new_privs stands.
            return


def _prctl(libc: ctypes.CDLL, option: int, value: int) -> None:
    _check(libc.prctl(option, value, 0, 0, 0), f"prctl {option}")


def _check(result: int, what: str) -> None:
    if result:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
