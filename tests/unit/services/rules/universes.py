"""Random rule sets for tests: rules that overlap in every way, and indexes that disagree about their order."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from services.rules.rule import FIELDS, Index, Match, Packet, RuleId, Span, Spans

#: Bits of each field: few, so that random packets hit every corner of the rules.
SMALL = (4, 4, 3, 4)


@dataclass(frozen=True)
class Universe:
    """Rules, the indexes that have them, and the widths of the fields in bits."""

    rules: dict[RuleId, Match]
    indexes: tuple[Index, ...]
    widths: tuple[int, ...] = SMALL

    def packets(self, random: Random, count: int) -> list[Packet]:
        """Return random packets."""
        return [Packet(*map(random.getrandbits, self.widths)) for _ in range(count)]


def universe(seed: int, most: int = 25, *, agree: bool = False) -> Universe:
    """Make a rule set; with `agree` all indexes have the order of the names, with gaps."""
    random = Random(seed)
    rules = {f"r{number:03}": match(random) for number in range(random.randint(1, most))}
    names = sorted(rules)
    if agree:
        indexes = [tuple(name for name in names if random.random() < 0.8) for _ in range(random.randint(1, 4))]
    else:
        indexes = [tuple(random.sample(names, random.randint(0, len(names)))) for _ in range(random.randint(1, 4))]
    return Universe(rules, tuple(indexes))


def match(random: Random, widths: tuple[int, ...] = SMALL) -> Match:
    """Make a match with anything in some fields."""
    return Match(*(spans(random, width) for width in widths))


def spans(random: Random, width: int) -> Spans:
    """Make spans of one field, which may overlap."""
    if random.random() < 0.3:
        return ((0, 2**width - 1),)
    return tuple(span(random, width) for _ in range(random.choice((1, 1, 1, 2, 3))))


def span(random: Random, width: int) -> Span:
    """Make a prefix or a range."""
    if random.random() < 0.7:
        size = 1 << random.randint(0, width)
        low = random.getrandbits(width) // size * size
        return low, low + size - 1
    low, high = sorted((random.getrandbits(width), random.getrandbits(width)))
    return low, high


def rule(**fields: Span | Spans) -> Match:
    """Write a match short: one span or several in the fields given, anything of the small widths in the others."""
    values = []
    for field, width in zip(FIELDS, SMALL, strict=True):
        value = fields.get(field, (0, 2**width - 1))
        values.append((value,) if value and isinstance(value[0], int) else value)
    return Match(*values)
