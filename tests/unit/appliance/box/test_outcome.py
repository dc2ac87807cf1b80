"""What a seed becomes: files in their order, lines of people."""

from __future__ import annotations

from appliance.box import outcome
from appliance.box.outcome import Entry
from tests.support.intents import LAB
from tests.support.seeds import HASH, KEY, META, seed


def entries(user: str = "", network: str | None = None, meta: str = META, **more: str) -> dict[str, Entry]:
    """Return the files by path."""
    return {entry.path: entry for entry in outcome.entries(seed(user, network, meta, **more))}


def test_a_name_is_written_where_the_system_looks_for_it() -> None:
    """With the whole name, when there is one."""
    found = entries("fqdn: h9.example.net")
    assert found["/etc/hostname"].content == b"h9\n"
    assert b"127.0.1.1 h9.example.net h9\n" in found["/etc/hosts"].content


def test_keys_are_where_only_root_writes() -> None:
    """The default user gets meta-data's too."""
    found = entries(f"ssh_authorized_keys: ['{KEY} a']", None, f"instance-id: i\npublic-keys: ['{KEY} b']\n")
    assert found["/etc/ssh/authorized_keys/admin"].content == f"{KEY} a\n{KEY} b\n".encode()
    assert "/etc/ssh/authorized_keys/alice" not in entries("users: [alice]")


def test_without_network_config_the_first_interface_asks() -> None:
    """With one, only what it says."""
    assert "/etc/systemd/network/10-edgeway-eth0.network" in entries()
    assert not [path for path in entries("", "version: 2\n") if "network" in path]


def test_clock_and_timezone() -> None:
    """A file that starts the client, a link."""
    found = entries("ntp: {servers: [192.0.2.1]}\ntimezone: Europe/Paris")
    assert found[outcome.CLOCK].content == b"[Time]\nNTP=192.0.2.1\n"
    assert found["/etc/localtime"] == Entry("/etc/localtime", b"/usr/share/zoneinfo/Europe/Paris", kind="link")


def test_the_intent_is_the_last_and_written_once_and_for_root() -> None:
    """All it needs is there before it; what the operator changes later stays."""
    found = list(outcome.entries(seed("edgeway: {node: h1, intent_file: i}\nwrite_files: [{path: /etc/a}]", i=LAB)))
    assert [entry.path for entry in found][-2:] == ["/etc/edgeway/node", "/etc/edgeway/intent.yaml"]
    assert (found[-1].once, found[-1].mode, found[-2].content) == (True, 0o600, b"h1\n")
    assert [entry.once for entry in found if entry.path == "/etc/a"] == [False]


def test_people_have_a_line_each() -> None:
    """A plain password is hashed; nobody's is empty."""
    text = f"password: geheim\nusers: [{{name: a, passwd: '{HASH}', lock_passwd: false, shell: /bin/sh}}, b]"
    assert list(outcome.people(seed(text), lambda plain: f"<{plain}>")) == [
        "admin:<geheim>:/usr/bin/edgeway-shell:sudo:operator",
        f"a:{HASH}:/bin/sh::",
        "b:*:/usr/bin/edgeway-shell::",
    ]
