"""Users, keys and passwords of user-data. Pure; called by `appliance.box.cloud_config`.

The user `admin` is always there: who has its key or its password operates the box. It is not called `edgeway`, because
that is who the BGP engines are, and they read what strangers send.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from appliance.box.reader import LINE, Reader
from appliance.model.text import Path

DEFAULT_USER: Final = "admin"
SHELL: Final = "/usr/bin/edgeway-shell"
#: Who is in this group may become root.
OPERATORS: Final = "sudo"

USER_NAME: Final = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
KEY: Final = re.compile(
    r"([a-z0-9@.,=\"*?:/ _-]+ )?(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-[a-z0-9-]+@openssh\.com)"
    r" +[A-Za-z0-9+/]{40,}={0,3}( [^\x00-\x1f\x7f]*)?"
)
#: What today's crypt(3) makes; DES and MD5 can be guessed.
_HASH: Final = re.compile(r"\$(y|gy|7|2[aby]|6|5)\$[A-Za-z0-9./$,=-]{8,300}")
_SHELL: Final = re.compile(r"/[A-Za-z0-9._/-]{1,100}")
_NO_COLON: Final = re.compile(r"[^\x00-\x1f\x7f:]{1,100}")
_HASH_HINT: Final = "make one with `mkpasswd`"

#: Of Debian's base system and of what the image adds to it.
_TAKEN: Final = frozenset({
    *("root", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy", "www-data"),
    *("backup", "list", "irc", "gnats", "nobody", "_apt", "sshd", "tcpdump"),
    *("messagebus", "systemd-network", "systemd-timesync", "systemd-resolve", "systemd-coredump", "edgeway", "gobgp"),
})  # fmt: skip

_KNOWN: Final = frozenset({
    *("name", "gecos", "shell", "groups", "primary_group", "ssh_authorized_keys", "lock_passwd"),
    *("passwd", "hashed_passwd", "plain_text_passwd", "sudo"),
})  # fmt: skip
_IGNORED: Final = {
    "homedir": "homes are /home/NAME, in memory",
    "no_create_home": "every user has a home, in memory",
    "system": "users of a seed are people",
    "uid": "numbers are given in the order of the seed",
    "no_user_group": "every user has a group of its own",
    "ssh_import_id": "the box asks nobody for keys",
    "expiredate": "write another seed when a user has to go",
    "inactive": "write another seed when a user has to go",
}


@dataclass(frozen=True, slots=True)
class Password:
    """A password as crypt(3) made it, or in plain, to be hashed before anything is written."""

    text: str
    plain: bool = False

    def __repr__(self) -> str:
        """Say nothing that a log should not hold."""
        return "Password(...)"


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may log in: by key, and at the console by password."""

    name: str
    gecos: str = ""
    shell: str = SHELL
    groups: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    password: Password | None = None


def read(reader: Reader, said: dict[str, Any]) -> tuple[User, ...]:
    """Return the default user and the seed's, with the keys and passwords that stand elsewhere."""
    found = {DEFAULT_USER: User(DEFAULT_USER, "operator", groups=(OPERATORS,))}
    for at, item in reader.items(said.get("users"), ("users",)):
        user = _user(reader, item, at, found[DEFAULT_USER])
        if user is not None and user.name in found and user.name != DEFAULT_USER:
            reader.wrong(at, f"{user.name} stands twice", "remove one")
        elif user is not None:
            found[user.name] = user
    if "ssh_authorized_keys" in said:
        keys = _keys(reader, said["ssh_authorized_keys"], ("ssh_authorized_keys",))
        found[DEFAULT_USER] = replace(found[DEFAULT_USER], keys=found[DEFAULT_USER].keys + keys)
    for at, name, password in _passwords(reader, said):
        if name in found:
            found[name] = replace(found[name], password=password)
        else:
            reader.wrong(at, f"there is no user {name}", "write the name under users")
    return tuple(found.values())


def _user(reader: Reader, item: Any, at: Path, default: User) -> User | None:
    """Return a user; the word `default` and a bare name are users too."""
    if isinstance(item, str):
        item = {"name": DEFAULT_USER if item == "default" else item}
    said = reader.table(item, at, _KNOWN, _IGNORED)
    if not said.get("name"):
        reader.wrong(at, "needs a name")
        return None
    name = reader.text(said["name"], (*at, "name"), USER_NAME, "a name of lower-case letters, digits, _ and -")
    if name in _TAKEN:
        reader.wrong(
            (*at, "name"), f"{name} is a user of the system", f"take another name; {DEFAULT_USER} is the default user"
        )
    base = default if name == DEFAULT_USER else User(name)
    return User(
        name,
        reader.text(said["gecos"], (*at, "gecos"), _NO_COLON, "text without colons") if "gecos" in said else base.gecos,
        reader.text(said["shell"], (*at, "shell"), _SHELL, "a path") if "shell" in said else base.shell,
        tuple(dict.fromkeys([*base.groups, *_groups(reader, said, at)])),
        _keys(reader, said["ssh_authorized_keys"], (*at, "ssh_authorized_keys"))
        if "ssh_authorized_keys" in said
        else (),
        _own_password(reader, said, at) or base.password,
    )


def _groups(reader: Reader, said: dict[str, Any], at: Path) -> Iterator[str]:
    """Yield the groups of a user; whoever has `sudo` is an operator, whatever its rule says."""
    value = said.get("groups", [])
    words = value.replace(",", " ").split() if isinstance(value, str) else value
    yield from reader.texts(words, (*at, "groups"), USER_NAME, "a name of a group")
    if "primary_group" in said:
        yield reader.text(said["primary_group"], (*at, "primary_group"), USER_NAME, "a name")
    rule = said.get("sudo", False)
    if rule is not False and rule not in ("", []):
        rules = reader.texts(rule, (*at, "sudo"), LINE, "a rule of sudoers, or false")
        if any("ALL" not in one.rpartition(")")[2] for one in rules):
            reader.doubt((*at, "sudo"), "is taken as ALL=(ALL) NOPASSWD:ALL: there are operators and others")
        yield OPERATORS


def _keys(reader: Reader, value: Any, at: Path) -> tuple[str, ...]:
    return reader.texts(value, at, KEY, "an SSH public key: type, base64, comment")


def _own_password(reader: Reader, said: dict[str, Any], at: Path) -> Password | None:
    """Return the password of a user who is not locked."""
    given = [key for key in ("passwd", "hashed_passwd", "plain_text_passwd") if key in said]
    if not given:
        return None
    key = given[-1]
    if reader.flag(said.get("lock_passwd", True), (*at, "lock_passwd")):
        reader.doubt((*at, key), "has no effect while lock_passwd is not false")
        return None
    return _password(reader, said[key], (*at, key), plain=key == "plain_text_passwd")


def _password(reader: Reader, value: Any, at: Path, *, plain: bool) -> Password | None:
    """Return a password; a plain one is taken with a warning, for seeds of labs are full of them."""
    if not plain:
        text = reader.text(value, at, _HASH, f"a password hashed with yescrypt, bcrypt or SHA-2 ({_HASH_HINT})")
        return Password(text) if text else None
    text = reader.text(value, at, re.compile(r"[^\x00\n\r]{1,256}"), "a password")
    if text:
        reader.doubt(at, "is readable by everybody who can read the seed", f"write a hash; {_HASH_HINT}")
    return Password(text, plain=True) if text else None


def _passwords(reader: Reader, said: dict[str, Any]) -> Iterator[tuple[Path, str, Password]]:
    """Yield place, user and password of `password` and `chpasswd`."""
    if "password" in said:
        at: Path = ("password",)
        hashed = isinstance(said["password"], str) and said["password"].startswith("$")
        if password := _password(reader, said["password"], at, plain=not hashed):
            yield at, DEFAULT_USER, password
    more = reader.table(said.get("chpasswd"), ("chpasswd",), {"list", "users", "expire"})
    if "expire" in more and reader.flag(more["expire"], ("chpasswd", "expire")):
        message = "has no effect: what is changed on the box is gone after a boot; change the seed"
        reader.doubt(("chpasswd", "expire"), message)
    yield from _listed(reader, more.get("list"))
    for at, item in reader.items(more.get("users"), ("chpasswd", "users")):
        one = reader.table(item, at, {"name", "password", "type"})
        name = reader.text(one.get("name"), (*at, "name"), USER_NAME, "a user's name")
        kind = reader.text(one.get("type", "hash"), (*at, "type"), re.compile("hash|text"), "hash or text")
        password = _password(reader, one.get("password"), (*at, "password"), plain=kind == "text")
        if name and password:
            yield at, name, password


def _listed(reader: Reader, value: Any) -> Iterator[tuple[Path, str, Password]]:
    """Yield what `list` says: `name:password`, by lines or by items."""
    at: Path = ("chpasswd", "list")
    lines = (
        [(at, line) for line in value.splitlines() if line.strip()]
        if isinstance(value, str)
        else reader.items(value, at)
    )
    for place, line in lines:
        name, colon, text = line.strip().partition(":") if isinstance(line, str) else ("", "", "")
        if not colon or not text or text in ("R", "RANDOM"):
            reader.wrong(place, "must be name:password; the box makes no passwords itself")
        elif password := _password(reader, text, place, plain=not text.startswith("$")):
            yield place, name, password
