from __future__ import annotations

from appliance.panel.lab import schema


def test_a_key_has_one_fate() -> None:
    """No key is both honoured and refused, or warned of."""
    honoured, warned, refused = set(schema.NODE_KEYS), set(schema.WARNED_NODE_KEYS), set(schema.REFUSED_NODE_KEYS)
    assert not honoured & warned
    assert not honoured & refused
    assert not warned & refused
    assert not set(schema.WARNED_TOP_KEYS) & schema.TOP_KEYS
    assert not set(schema.WARNED_LINK_KEYS) & schema.LINK_KEYS


def test_every_shape_is_one_that_the_parser_knows() -> None:
    """A key with another shape would be read as nothing."""
    assert set(schema.NODE_KEYS.values()) == {"text", "texts", "table"}
