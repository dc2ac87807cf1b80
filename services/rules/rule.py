"""What a rule matches, as spans of integers, and the plain first-match evaluator that defines what is right.

Addresses are integers of their family's width: IPv4 and IPv6 are compiled apart. Pure values, used by all of
`services.rules` and by whoever makes rules.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple

#: First and last value, both inside.
Span = tuple[int, int]
Spans = tuple[Span, ...]
#: A rule's identity is its content; `identity` makes one.
RuleId = str
#: The rules that hold for a port, in order: the first that matches decides.
Index = tuple[RuleId, ...]

Field = Literal["source", "destination", "protocol", "port"]
FIELDS: Final[tuple[Field, ...]] = ("source", "destination", "protocol", "port")

Family = Literal[4, 6]
ANY_ADDRESS: Final[Mapping[Family, Span]] = {4: (0, 2**32 - 1), 6: (0, 2**128 - 1)}
ANY_PROTOCOL: Final[Span] = (0, 255)
ANY_PORT: Final[Span] = (0, 65535)


class Packet(NamedTuple):
    """What a rule can ask of a packet; protocols without ports have any port."""

    source: int
    destination: int
    protocol: int
    port: int


class Box(NamedTuple):
    """One span in each field. A named tuple, because a rule set has hundreds of thousands."""

    source: Span
    destination: Span
    protocol: Span
    port: Span


class Match(NamedTuple):
    """What a rule matches: the product of several spans in each field."""

    source: Spans
    destination: Spans
    protocol: Spans
    port: Spans

    def covers(self, packet: Packet) -> bool:
        """Tell whether the rule matches a packet."""
        return all(any(low <= value <= high for low, high in spans) for spans, value in zip(self, packet, strict=True))

    def merged(self) -> Match:
        """Write the same match with sorted spans that neither overlap nor touch."""
        return Match(*map(merged, self))


def merged(spans: Iterable[Span]) -> Spans:
    """Join spans that overlap or touch; empty ones go."""
    joined: list[Span] = []
    for low, high in sorted(span for span in spans if span[0] <= span[1]):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    return tuple(joined)


def evaluate(rules: Mapping[RuleId, Match], index: Index, packet: Packet) -> RuleId | None:
    """Return the first rule of the index that matches, as a firewall without any cleverness would find it."""
    return next((rule for rule in index if rules[rule].covers(packet)), None)


def identity(fields: Mapping[str, object]) -> RuleId:
    """Return the identity of a rule with this content."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
