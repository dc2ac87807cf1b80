"""Variables of a topology file: what has a value is replaced, what has none stays."""

from __future__ import annotations

import pytest

from appliance.panel.lab.variables import expand

ENVIRONMENT = {"NAME": "value", "EMPTY": ""}


@pytest.mark.parametrize(
    ("written", "becomes"),
    [
        ("$NAME/${NAME}x", "value/valuex"),
        ("${NAME:=other} ${NAME-other}", "value value"),
        ("${NONE:=a b:c} ${NONE:-d} ${NONE=e} ${NONE-f}", "a b:c d e f"),
        ("${EMPTY:=a} ${EMPTY:-b} [${EMPTY=c}] [$EMPTY]", "a b [] []"),
        ("${NONE:=}", ""),
        ("$NONE ${NONE} $(date) $1 $$ ${NAME%%x}", "$NONE ${NONE} $(date) $1 $$ ${NAME%%x}"),
        ("  # $NAME\n$NAME # $NAME", "  # $NAME\nvalue # value"),
    ],
)
def test_a_variable_becomes_its_value_or_its_default(written: str, becomes: str) -> None:
    """Nothing else is touched: a shell in a node has variables too."""
    assert expand(written, ENVIRONMENT) == becomes
