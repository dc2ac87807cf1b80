from __future__ import annotations

import pytest

from appliance.panel.lab.levels import EMPTY, Level, Levels
from appliance.panel.lab.reader import Placed


def level(**texts: str) -> Level:
    """Make a level that holds single texts."""
    return Level({key: Placed((key,), text) for key, text in texts.items()}, {}, {})


@pytest.mark.parametrize(
    ("node", "kind"),
    [
        (level(kind="own", group="g"), "own"),
        (level(group="g"), "of-g"),
        (level(group="without"), "of-default-group"),
        (EMPTY, "of-default-group"),
    ],
)
def test_a_kind_is_looked_for_from_the_node_outwards(node: Level, kind: str) -> None:
    """Its own, its group's, that of the group of the defaults."""
    groups = {"g": level(kind="of-g"), "d": level(kind="of-default-group"), "without": EMPTY}
    levels = Levels(level(kind="of-defaults", group="d"), {}, groups)
    assert levels.above(node)[0] == kind


def test_the_defaults_have_the_last_word_on_the_kind() -> None:
    """When no group has one."""
    assert Levels(level(kind="of-defaults"), {}, {}).above(EMPTY)[0] == "of-defaults"


def test_the_group_of_a_kind_goes_before_that_of_the_defaults() -> None:
    """A node that names none itself gets it."""
    groups = {"k": level(cmd="k"), "d": level(cmd="d")}
    levels = Levels(level(group="d"), {"linux": level(group="k")}, groups)
    _, above = levels.above(level(kind="linux"))
    assert [each.one("cmd") for each in above] == ["", "", "k", ""]


def test_an_empty_text_is_nothing() -> None:
    """As in containerlab: it does not hide what is inherited."""
    assert level(kind="").one("kind") == level().one("kind") == ""
