"""Who may log in, by what."""

from __future__ import annotations

import pytest

from appliance.box.people import DEFAULT_USER, OPERATORS, SHELL, Password, User
from tests.support.seeds import HASH, KEY, errors, said, seed


def users(text: str) -> dict[str, User]:
    """Return the users of user-data by name."""
    return {user.name: user for user in seed(text).config.users}


def test_the_default_user_is_always_there_and_operates_the_box() -> None:
    """Without key and password nobody gets in by it."""
    assert users("") == {DEFAULT_USER: User(DEFAULT_USER, "operator", SHELL, (OPERATORS,), (), None)}


def test_keys_at_the_top_are_the_default_user_s() -> None:
    """Together with those of its own entry."""
    text = f"ssh_authorized_keys: ['{KEY} a']\nusers: [{{name: {DEFAULT_USER}, ssh_authorized_keys: ['{KEY} b']}}]"
    assert users(text)[DEFAULT_USER].keys == (f"{KEY} b", f"{KEY} a")


def test_another_user_is_no_operator_unless_sudo_says_so() -> None:
    """A rule that gives less is taken as the whole, and that is said."""
    text = "users: [alice, {name: bob, sudo: 'ALL=(ALL) NOPASSWD:ALL'}, {name: eve, sudo: false, groups: 'a, b'}]"
    assert {name: user.groups for name, user in users(text).items()} == {
        DEFAULT_USER: (OPERATORS,),
        "alice": (),
        "bob": (OPERATORS,),
        "eve": ("a", "b"),
    }
    assert "users.0.sudo" in said(seed("users: [{name: bob, sudo: 'ALL=(root) /bin/ls'}]").warnings)


@pytest.mark.parametrize("name", ["root", "edgeway", "Alice", "a:b", "x" * 40, "-a"])
def test_names_of_the_system_and_odd_names_are_refused(name: str) -> None:
    """The user of the BGP engines reads what strangers send: nobody logs in as it."""
    assert "users.0.name" in said(errors(f"users: [{{name: '{name}'}}]"))


@pytest.mark.parametrize("key", ["ssh-dss AAAA", "nonsense", f"{KEY}\n{KEY}", "ssh-ed25519", "-----BEGIN"])
def test_what_is_no_public_key_is_refused(key: str) -> None:
    """A line more would be a key more."""
    found = errors("ssh_authorized_keys: [" + repr(key).replace("'", '"') + "]")
    assert found[0].path == "ssh_authorized_keys.0"


def test_options_before_a_key_are_kept() -> None:
    """They make it weaker, never stronger."""
    key = f'from="192.0.2.0/24",no-pty {KEY}'
    assert users(f"ssh_authorized_keys:\n- '{key}'\n")[DEFAULT_USER].keys == (key,)


def test_a_hash_counts_only_for_who_is_not_locked() -> None:
    """As everywhere; and it is said."""
    text = f"users: [{{name: a, passwd: '{HASH}'}}, {{name: b, passwd: '{HASH}', lock_passwd: false}}]"
    found = users(text)
    assert (found["a"].password, found["b"].password) == (None, Password(HASH))
    assert "users.0.passwd" in said(seed(text).warnings)


@pytest.mark.parametrize("word", ["$1$abc$defghijklmn", "abJnggxhB/yWI", "plain", "$6$a:b$cdefghijkl"])
def test_weak_hashes_and_none_are_refused(word: str) -> None:
    """DES and MD5 can be guessed; a colon would be another field."""
    assert "users.0.passwd" in said(errors(f"users: [{{name: a, lock_passwd: false, passwd: '{word}'}}]"))


@pytest.mark.parametrize(
    "text",
    [
        "password: geheim",
        "chpasswd: {list: 'admin:geheim'}",
        "chpasswd: {list: ['admin:geheim']}",
        "chpasswd: {users: [{name: admin, password: geheim, type: text}]}",
        "users: [{name: admin, lock_passwd: false, plain_text_passwd: geheim}]",
    ],
)
def test_a_plain_password_is_taken_with_a_warning(text: str) -> None:
    """Seeds of labs are full of them; no text shows it again."""
    judged = seed(text)
    assert judged.config.users[0].password == Password("geheim", plain=True)
    assert any("readable" in warning.message for warning in judged.warnings)
    assert "geheim" not in repr(judged)


@pytest.mark.parametrize("text", [f"password: '{HASH}'", f"chpasswd: {{list: 'admin:{HASH}', expire: false}}"])
def test_a_hash_instead_is_known_by_its_form(text: str) -> None:
    """Nothing to warn of."""
    judged = seed(text)
    assert judged.config.users[0].password == Password(HASH)
    assert judged.warnings == ()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("chpasswd: {list: 'nobody-here:x'}", "chpasswd.list"),
        ("chpasswd: {list: 'admin:RANDOM'}", "chpasswd.list"),
        ("chpasswd: {list: [7]}", "chpasswd.list.0"),
        ("chpasswd: {users: [{name: admin}]}", "chpasswd.users.0.password"),
        ("users: [a, a]", "users.1"),
        ("users: [{shell: /bin/sh}]", "users.0"),
        ("users: [{name: a, shell: 'x y'}]", "users.0.shell"),
        ("users: [{name: a, gecos: 'x:y'}]", "users.0.gecos"),
    ],
)
def test_what_does_not_fit_is_an_error_at_its_place(text: str, path: str) -> None:
    """Each by its path."""
    assert path in said(errors(text))
