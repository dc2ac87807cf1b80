from __future__ import annotations

import re

import pytest

from routing.engines.native.log import log


def test_what_happened_is_one_line_with_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever a value holds."""
    log("thing-happened", number=5, text="two\nlines")
    said = capsys.readouterr()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ thing-happened number=5 text='two\\nlines'\n", said.err)
    assert said.out == ""
