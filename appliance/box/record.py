"""What was decided of a seed, kept on the data partition and carried out at every boot. Quick to import: no YAML, no model.

    /data/seed/current -> 2    the seed that counts; replaced by a rename, so a cut leaves the old one or the new one
    /data/seed/2/meta          meta-data as it was: the same octets on a volume mean the same instance
    /data/seed/2/instance      its instance-id
    /data/seed/2/files         lines `MODE OWNER KIND WHEN PATH`; line 3's content is in the file 3
    /data/seed/2/people        lines as `appliance.box.outcome.people` makes them
    /data/seed/2/bootcmd, runcmd   scripts
    /data/seed/2/once          is there when what stays by itself was written
    /data/seed/2/ran           is there when runcmd has begun

Called by `appliance.box.first_boot`.
"""

from __future__ import annotations

import os

from appliance.box.accounts import PEOPLE_FIELDS, Accounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from appliance.box.seed import Seed

OLDEST = 1  # records kept beside the current one


class Record:
    """One seed that was taken, in its directory."""

    def __init__(self, directory: str) -> None:
        """Read nothing yet."""
        self.directory = directory

    def text(self, name: str) -> str:
        """Return a file of the record; nothing when it is absent."""
        return self.octets(name).decode(errors="surrogateescape")

    def octets(self, name: str) -> bytes:
        """Return the octets of a file of the record."""
        try:
            with open(f"{self.directory}/{name}", "rb") as file:  # noqa: PTH123 - pathlib is slow to import
                return file.read()
        except OSError:
            return b""

    def has(self, name: str) -> bool:
        """Tell whether a mark is set."""
        return os.access(f"{self.directory}/{name}", os.F_OK)

    def mark(self, name: str) -> None:
        """Set a mark that outlives a power cut."""
        write(f"{self.directory}/{name}", b"", 0o600)

    def files(self) -> Iterator[tuple[str, int, str, str, bool, str]]:
        """Yield for each file: its path, mode, owner, kind, whether it is written once, where its content is."""
        for number, line in enumerate(self.text("files").splitlines(), 1):
            mode, owner, kind, when, path = line.split(" ", 4)
            yield path, int(mode, 8), owner, kind, when == "once", str(number)

    def people(self) -> Iterator[list[str]]:
        """Yield the fields of each user."""
        for line in self.text("people").splitlines():
            fields = line.split(":", PEOPLE_FIELDS - 1)
            if len(fields) == PEOPLE_FIELDS:
                yield fields


def current(base: str) -> Record | None:
    """Return the record that counts."""
    directory = f"{base}/current"
    return Record(directory) if os.access(f"{directory}/instance", os.F_OK) else None


def store(base: str, seed: Seed, hashed: Callable[[str], str]) -> Record:
    """Keep a judged seed as the one that counts."""
    from appliance.box import outcome  # noqa: PLC0415 - slow to import, and most boots store nothing

    os.makedirs(base, 0o700, exist_ok=True)  # noqa: PTH103
    numbers = sorted(int(name) for name in os.listdir(base) if name.isdigit())  # noqa: PTH208
    name = str(max(numbers, default=0) + 1)
    directory = f"{base}/{name}"
    os.mkdir(directory, 0o700)  # noqa: PTH102
    lines = []
    for number, entry in enumerate(outcome.entries(seed), 1):
        when = "once" if entry.once else "boot"
        lines.append(f"{entry.mode:04o} {entry.owner} {entry.kind} {when} {entry.path}\n")
        write(f"{directory}/{number}", entry.content, 0o600)
    people = "".join(f"{line}\n" for line in outcome.people(seed, hashed))
    scripts = {"bootcmd": seed.config.boot_script, "runcmd": seed.config.run_script}
    for part, text in {"files": "".join(lines), "people": people, "instance": seed.instance, **scripts}.items():
        if text:
            write(f"{directory}/{part}", text.encode(), 0o600)
    write(f"{directory}/meta", seed.meta, 0o600)
    _point(base, name)
    for old in numbers[:-OLDEST]:
        _forget(f"{base}/{old}")
    return Record(f"{base}/current")


def _point(base: str, name: str) -> None:
    """Make a record the one that counts, at one stroke."""
    new = f"{base}/current.new"
    if os.path.lexists(new):
        os.unlink(new)  # noqa: PTH108
    os.symlink(name, new)  # noqa: PTH211
    os.replace(new, f"{base}/current")  # noqa: PTH105
    _settle(base)


def _forget(directory: str) -> None:
    for name in os.listdir(directory):  # noqa: PTH208
        os.unlink(f"{directory}/{name}")  # noqa: PTH108
    os.rmdir(directory)  # noqa: PTH106


def carry_out(record: Record, root: str) -> list[str]:
    """Write users and files below `root`; return what went wrong. What stays by itself is written the first time only."""
    accounts = _accounts(root)
    problems = _add_people(record, accounts, root)
    kept = record.has("once")
    for path, mode, owner, kind, once, content in record.files():
        if once and kept:
            continue
        try:
            _place(root + path, record.octets(content), mode, kind)
            _own(root + path, owner, accounts)
        except (OSError, ValueError) as error:
            problems.append(f"{path}: {error}")
    if not kept:
        record.mark("once")
    return problems


def _accounts(root: str) -> Accounts:
    texts = []
    for name in ("passwd", "shadow", "group"):
        with open(f"{root}/etc/{name}", encoding="utf-8") as file:  # noqa: PTH123
            texts.append(file.read())
    return Accounts(*texts)


def _add_people(record: Record, accounts: Accounts, root: str) -> list[str]:
    problems, homes = [], []
    for name, password, shell, groups, gecos in record.people():
        if not os.access(root + shell, os.X_OK):
            problems.append(f"{name}: there is no {shell}; /bin/sh instead")
            shell = "/bin/sh"  # noqa: PLW2901 - nobody could log in with the other
        if accounts.add(name, password, shell, [group for group in groups.split(",") if group], gecos):
            homes.append(name)
        else:
            problems.append(f"the image has a user {name} of its own; the seed's was not made")
    for name, text, mode in accounts.texts() if homes else ():
        _place(f"{root}/etc/{name}", text.encode(), mode, "file")
        if name == "shadow":
            os.chown(f"{root}/etc/shadow", 0, max(accounts.group("shadow"), 0))
    for name in homes:
        home = f"{root}/home/{name}"
        os.makedirs(f"{root}/home", exist_ok=True)  # noqa: PTH103
        if not os.access(home, os.F_OK):
            os.mkdir(home, 0o700)  # noqa: PTH102
            os.chown(home, accounts.user(name), accounts.user(name))
    return problems


def _place(path: str, content: bytes, mode: int, kind: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
    if kind == "link":
        if os.path.lexists(path):
            os.unlink(path)  # noqa: PTH108
        os.symlink(content.decode(), path)  # noqa: PTH211
    elif kind == "append":
        with open(path, "ab") as file:  # noqa: PTH123
            file.write(content)
        os.chmod(path, mode)  # noqa: PTH101
    else:
        write(path, content, mode)


def _own(path: str, owner: str, accounts: Accounts) -> None:
    user, _, group = owner.partition(":")
    numbers = accounts.user(user), accounts.group(group)
    if min(numbers) < 0:
        raise ValueError(f"there is no user {user} or no group {group}")
    if numbers != (0, 0):
        os.lchown(path, *numbers)


def write(path: str, content: bytes, mode: int) -> None:
    """Replace a file by a rename: a reader sees the old or the new one, and so does who comes after a power cut."""
    new = f"{path}.edgeway-new"
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with open(file, "wb") as opened:  # noqa: PTH123 - a descriptor
        os.fchmod(file, mode)
        opened.write(content)
        opened.flush()
        os.fsync(file)
    os.replace(new, path)  # noqa: PTH105
    _settle(os.path.dirname(path))  # noqa: PTH120


def _settle(directory: str) -> None:
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
