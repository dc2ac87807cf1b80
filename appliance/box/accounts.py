"""/etc/passwd, /etc/shadow and /etc/group with the people of a seed. Pure, and quick to import: it runs at every boot.

Written anew from the image's own files: no tool is started, and what an update brings of system users stays.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes longer to import than all the rest
    from collections.abc import Iterable

FIRST_USER, FIRST_GROUP = 1000, 2000
PEOPLE_FIELDS = 5


class Accounts:
    """The three files; `add` puts a person into them."""

    def __init__(self, passwd: str, shadow: str, group: str) -> None:
        """Take the texts of the image."""
        self._passwd, self._shadow, self._group = (
            [line.split(":") for line in text.splitlines() if line] for text in (passwd, shadow, group)
        )

    def add(self, name: str, password: str, shell: str, groups: Iterable[str], gecos: str) -> bool:
        """Add a person, or tell that the image has this user already."""
        if self.user(name) >= 0:
            return False
        number = self._free(FIRST_USER, self._passwd, self._group)
        self._passwd.append([name, "x", str(number), str(number), gecos, f"/home/{name}", shell])
        self._shadow.append([name, password, "", "", "", "", "", "", ""])
        self._group.append([name, "x", str(number), ""])
        for group in groups:
            self._join(name, group)
        return True

    def _join(self, name: str, group: str) -> None:
        """Put somebody into a group, which is made when it is not there."""
        for fields in self._group:
            if fields[0] == group:
                members = [member for member in fields[3].split(",") if member]
                fields[3] = ",".join([*members, name] if name not in members else members)
                return
        self._group.append([group, "x", str(self._free(FIRST_GROUP, self._group)), name])

    @staticmethod
    def _free(first: int, *tables: list[list[str]]) -> int:
        taken = {int(fields[2]) for table in tables for fields in table}
        number = first
        while number in taken:
            number += 1
        return number

    def user(self, name: str) -> int:
        """Return the number of a user, or -1."""
        return next((int(fields[2]) for fields in self._passwd if fields[0] == name), -1)

    def group(self, name: str) -> int:
        """Return the number of a group, or -1."""
        return next((int(fields[2]) for fields in self._group if fields[0] == name), -1)

    def texts(self) -> tuple[tuple[str, str, int], ...]:
        """Return names, contents and modes of the files."""
        tables = (("passwd", self._passwd, 0o644), ("shadow", self._shadow, 0o640), ("group", self._group, 0o644))
        return tuple((name, "".join(f"{':'.join(fields)}\n" for fields in table), mode) for name, table, mode in tables)
