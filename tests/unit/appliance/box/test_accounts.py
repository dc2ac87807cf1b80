"""People are put into the image's own lists of users and groups."""

from __future__ import annotations

from appliance.box.accounts import Accounts

PASSWD = "root:x:0:0:root:/root:/bin/bash\nold:x:1000:1000::/home/old:/bin/sh\n"
SHADOW = "root:*:19000:0:99999:7:::\n"
GROUP = "root:x:0:\nsudo:x:27:first\nold:x:1000:\n"


def texts(accounts: Accounts) -> dict[str, list[str]]:
    """Return the lines of each file."""
    return {name: text.splitlines() for name, text, _ in accounts.texts()}


def test_a_person_gets_the_next_number_and_a_group_of_the_same() -> None:
    """Everything that was there stays."""
    accounts = Accounts(PASSWD, SHADOW, GROUP)
    assert accounts.add("alice", "*", "/bin/sh", ["sudo", "new"], "Alice")
    found = texts(accounts)
    assert found["passwd"] == [*PASSWD.splitlines(), "alice:x:1001:1001:Alice:/home/alice:/bin/sh"]
    assert found["shadow"] == [*SHADOW.splitlines(), "alice:*:::::::"]
    assert found["group"] == [
        "root:x:0:",
        "sudo:x:27:first,alice",
        "old:x:1000:",
        "alice:x:1001:",
        "new:x:2000:alice",
    ]


def test_a_user_of_the_image_is_not_touched() -> None:
    """Its password would become another's."""
    accounts = Accounts(PASSWD, SHADOW, GROUP)
    assert not accounts.add("old", "hash", "/bin/sh", ["sudo"], "")
    assert texts(accounts)["passwd"] == PASSWD.splitlines()
    assert texts(accounts)["group"] == GROUP.splitlines()


def test_numbers_by_name() -> None:
    """-1 is nobody's."""
    accounts = Accounts(PASSWD, SHADOW, GROUP)
    assert (accounts.user("old"), accounts.group("sudo"), accounts.user("x"), accounts.group("x")) == (1000, 27, -1, -1)


def test_only_root_reads_hashes() -> None:
    """And the group of who checks them."""
    assert {name: mode for name, _, mode in Accounts(PASSWD, SHADOW, GROUP).texts()}["shadow"] == 0o640
