"""What every boot needs before anything else, with a seed or without: host key, name, consoles. Quick to import.

initrd has mounted the data partition at /data already and put its parts where they belong (design 0009). Called by
`appliance.box.first_boot`.
"""

from __future__ import annotations

import os

DEFAULT_NAME = "edgeway"
#: Where a console without login is asked for: by the kernel's command line, which only who owns the machine can change.
OPEN = "edgeway.console=open"


def host_key(directory: str) -> list[str]:
    """Make this box's own SSH host key when it has none; return what went wrong."""
    key = f"{directory}/ssh_host_ed25519_key"
    if os.access(key, os.F_OK):
        return []
    os.makedirs(directory, 0o700, exist_ok=True)  # noqa: PTH103 - pathlib is slow to import
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", f"{key}.new"]
    for old in (f"{key}.new", f"{key}.new.pub"):
        if os.access(old, os.F_OK):
            os.unlink(old)  # noqa: PTH108
    try:
        code = os.waitstatus_to_exitcode(os.waitpid(os.posix_spawnp(words[0], words, os.environ), 0)[1])
    except OSError as error:
        return [f"no SSH host key: {error}"]
    if code:
        return [f"no SSH host key: ssh-keygen ended with {code}"]
    os.replace(f"{key}.new.pub", f"{key}.pub")  # noqa: PTH105
    os.replace(f"{key}.new", key)  # noqa: PTH105 - the last, for its presence says that it is whole
    return []


def name_host(root: str, kernel: str = "/proc/sys/kernel/hostname") -> None:
    """Give the kernel the name that /etc/hostname holds; a box that nobody named gets one that says what it is."""
    path = f"{root}/etc/hostname"
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123
            name = file.read().strip()
    except OSError:
        name = ""
    if not name:
        name = DEFAULT_NAME
        with open(path, "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(f"{name}\n")
        with open(f"{root}/etc/hosts", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(f"127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost ip6-localhost ip6-loopback\n")
    with open(kernel, "w", encoding="ascii") as file:  # noqa: PTH123
        file.write(name)


def console_is_open(command_line: str) -> bool:
    """Tell whether the console asks for nobody's name."""
    return OPEN in command_line.split()


def tell(lines: list[str], consoles: str = "/sys/class/tty/console/active", dev: str = "/dev") -> None:
    """Write lines on every console of the kernel, and for the journal on standard output."""
    try:
        with open(consoles, encoding="ascii") as file:  # noqa: PTH123
            names = file.read().split()
    except OSError:
        names = []
    text = "".join(f"edgeway: {line}\n" for line in lines)
    for name in names:
        try:
            terminal = os.open(f"{dev}/{name}", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            continue
        try:
            os.write(terminal, text.replace("\n", "\r\n").encode(errors="backslashreplace"))
        except OSError:  # nobody listens on it
            continue
        finally:
            os.close(terminal)
    os.write(1, text.encode(errors="backslashreplace"))
