from __future__ import annotations

from dataclasses import fields
from typing import get_args

import pytest

from routing.bgp import effects


@pytest.mark.parametrize("kind", get_args(effects.Effect), ids=lambda kind: kind.__name__)
def test_an_effect_is_a_value(kind: type) -> None:
    """Two that say the same are equal, and nobody changes one on its way."""
    said = list(range(len(fields(kind))))
    effect = kind(*said)
    assert effect == kind(*said)
    for field in fields(kind):
        with pytest.raises(AttributeError):
            setattr(effect, field.name, None)
