"""The reference manual: complete, true to the classes, and itself a valid intent."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from appliance.model.fields import Section
from appliance.model.intent import Health, Intent, PrefixMatch, SourceNat, Zone
from appliance.model.load import load, parse
from appliance.model.reference import EXAMPLE, default_words, keys, reference, type_words
from appliance.model.text import parse_yaml

FILE = Path(__file__).parents[4] / "design/reference-intent.yaml"
TEXT = reference()


def sections() -> list[type[Section]]:
    """Return every section that is written as one; prefix rules are text."""
    kinds = [kind for kind in Section.__subclasses__() if kind.__module__.startswith("appliance.")]
    return [kind for kind in kinds if kind is not PrefixMatch]


def explained() -> dict[tuple[str, str], str]:
    """Return the comment above a key by key and description."""
    lines = TEXT.splitlines()
    return {
        (below.replace("- ", "").strip().partition(":")[0], above.strip().removeprefix("# ").rpartition(" (")[0]): above
        for above, below in pairwise(lines)
        if above.strip().startswith("# ") and not below.strip().startswith("#")
    }


def test_the_file_is_what_the_command_prints() -> None:
    """Write it anew with EDGEWAY_REWRITE=1."""
    if os.environ.get("EDGEWAY_REWRITE") == "1":
        FILE.write_text(TEXT)
    assert FILE.read_text() == TEXT


def test_the_manual_is_a_valid_intent() -> None:
    """An operator can start from it."""
    assert load(FILE) == parse(TEXT)
    assert parse_yaml(TEXT).data == EXAMPLE


@pytest.mark.parametrize("kind", sections(), ids=lambda kind: kind.__name__)
def test_every_key_of_every_section_is_explained_once_with_its_default(kind: type[Section]) -> None:
    """A key that is added to a class and not to the example fails here."""
    comments = explained()
    for key, info in keys(kind).items():
        comment = comments[key, str(info.description)]
        assert comment.endswith(f"; {default_words(info)})")
        assert TEXT.count(comment + "\n") == 1
        if info.is_required():
            assert comment.endswith("; required)")
        elif isinstance(info.default, str | int | float) and not isinstance(info.default, bool):
            assert comment.endswith(f"; default {info.default})")


def test_every_key_is_set_somewhere() -> None:
    """Found by walking the classes and the example together."""
    missing = {(kind.__name__, key) for kind in sections() for key in keys(kind)}

    def walk(made: Any) -> None:
        if isinstance(made, Section):
            names = {info.alias or name: name for name, info in type(made).model_fields.items()}
            missing.difference_update(
                (type(made).__name__, alias) for alias, name in names.items() if name in made.model_fields_set
            )
            for name in type(made).model_fields:
                walk(getattr(made, name))
        elif isinstance(made, dict):
            for item in made.values():
                walk(item)
        elif isinstance(made, tuple):
            for item in made:
                walk(item)

    walk(parse(TEXT))
    assert missing == set()


def test_no_line_is_longer_than_a_terminal_is_wide() -> None:
    """Descriptions are short."""
    assert [line for line in TEXT.splitlines() if len(line) > 130] == []
    assert not re.search(r"[ \t]\n", TEXT)


@pytest.mark.parametrize(
    ("kind", "key", "words", "default"),
    [
        (Zone, "as", "number from 1 to 4294967294", "required"),
        (Zone, "nat-slots", "one of 4 8 16 32", "default 16"),
        (Zone, "public", "list: IPv4 prefix", "default none"),
        (Zone, "exchange-as", "number from 1 to 4294967294", "optional"),
        (SourceNat, "watermark", "number above 0 to 1", "default 0.75"),
        (Health, "rise", "number from 1 to 10", "default 2"),
        (Intent, "vpcs", "sections by name", "default none"),
    ],
)
def test_a_type_is_said_in_words(kind: type[Section], key: str, words: str, default: str) -> None:
    """With its bounds."""
    info = keys(kind)[key]
    assert (type_words(info.annotation, info.metadata), default_words(info)) == (words, default)
