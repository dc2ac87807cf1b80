"""Our nft table as text: scripts to run, and what a listing says (nft(8), syntax and output of nft 1.0.6 and later).

Pure. `nft` runs the scripts. The table carries the hash of the body it was made from, because the kernel gives back rules
in other words than they were written in: in a chain of its own, for what a table is made with can change later.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.model.marks import DISPATCH, INSTRUCTIONS, NFT_TABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from appliance.model.facts import Engine, Instruction, NftSet, NftTable

TABLE: Final = f"inet {NFT_TABLE}"
Elements = frozenset[str]
#: What a table has: kind (set for maps too, which share their names; chain, counter) and name.
Name = tuple[str, str]

#: The chain whose only rule says what the table was made from.
MADE_FROM: Final = "made_from"
_MADE_FROM: Final = re.compile(rf'^\tchain {MADE_FROM} \{{\n\t\treturn comment "ew:(\w+)"$', re.MULTILINE)
_OBJECT: Final = re.compile(r"^\t(set|map|counter|chain) (\S+) \{$", re.MULTILINE)
_SET: Final = re.compile(r"^\t(?:set|map) (\S+) \{\n(.*?)^\t\}$", re.MULTILINE | re.DOTALL)
_ELEMENTS: Final = re.compile(r'\t\telements = \{((?:"[^"]*"|[^"}])*)\}\n?')
_ELEMENT: Final = re.compile(r'(?:"[^"]*"|[^",])+')
#: The chain that stamps the flows of an engine, which is none of the body's rules.
_ENGINE: Final = re.compile(r"^\tchain engine(\d+) \{\n.*?^\t\}\n", re.MULTILINE | re.DOTALL)
#: Sets that the packet path fills: their elements are no facts.
_DYNAMIC: Final = re.compile(r"^\t\t(?:flags .*\b(?:dynamic|timeout)\b|timeout )", re.MULTILINE)
#: The element's key: without what a map gives for it, and without its comment.
_KEY: Final = re.compile(r'^(.*?)(?: comment "[^"]*")?(?: : .*)?$')

_LINE: Final = re.compile(r"^line (\d+):", re.MULTILINE)
_ERRNOS: Final = sorted(((os.strerror(code), code) for code in errno.errorcode), key=lambda pair: -len(pair[0]))


@dataclass(frozen=True, slots=True)
class Statement:
    """A piece of a script and the fact it is for."""

    text: str
    fact: NftTable | NftSet | Engine | Instruction


@dataclass(frozen=True, slots=True)
class Listing:
    """What the kernel holds: the hash of the body it came from, the elements, what there is, and a digest of all the rest.

    Of what flow records live by (design 0004): the elements of the dispatch map, the engines whose chains there are, and
    the address families of the maps of instructions; their keys are listed in wrong words (nft 1.0.6 keeps no typeof).
    """

    hash: str
    sets: Mapping[str, Elements]
    rest: str
    dispatch: Elements = frozenset()
    engines: tuple[int, ...] = ()
    families: tuple[int, ...] = ()
    objects: frozenset[Name] = frozenset()


def digest(text: str) -> str:
    """Return a short hash of a text."""
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def table(fact: NftTable) -> Statement:
    """Make the table anew; what was there goes in the same transaction."""
    body = fact.body.rstrip("\n")
    return Statement(f"{remove()}\ntable {TABLE} {{\n{made_from(fact.body)}\n{body}\n}}", fact)


def made_from(body: str) -> str:
    """Say what the table was made from."""
    return f'chain {MADE_FROM} {{ return comment "ew:{digest(body)}"; }}'


def remove() -> str:
    """Remove the table, whether it is there or not."""
    return f"table {TABLE} {{}}\ndelete table {TABLE}"


def add(fact: NftSet, elements: Iterable[str]) -> list[Statement]:
    """Add elements, if any."""
    text = ", ".join(sorted(elements))
    return [Statement(f"add element {TABLE} {fact.name} {{ {text} }}", fact)] if text else []


def subtract(fact: NftSet, elements: Iterable[str]) -> list[Statement]:
    """Delete elements, if any, by their keys."""
    text = ", ".join(sorted(map(key, elements)))
    return [Statement(f"delete element {TABLE} {fact.name} {{ {text} }}", fact)] if text else []


def key(element: str) -> str:
    """Return the key of an element of a set or map."""
    found = _KEY.match(element)
    return found[1] if found else element


def parse(listing: str) -> Listing:
    """Read what `nft -s list table` prints."""
    said = _MADE_FROM.search(listing)
    inner = dict(_SET.findall(listing))
    own = {DISPATCH, *INSTRUCTIONS.values()}
    return Listing(
        said[1] if said else "",
        {name: _elements(text) for name, text in inner.items() if name not in own and not _DYNAMIC.search(text)},
        digest(_ENGINE.sub(r"\1", _ELEMENTS.sub("", listing))),
        _elements(inner.get(DISPATCH, "")),
        tuple(int(number) for number in _ENGINE.findall(listing)),
        tuple(version for version, name in INSTRUCTIONS.items() if name in inner),
        frozenset(("set" if kind == "map" else kind, name) for kind, name in _OBJECT.findall(listing)),
    )


def _elements(inner: str) -> Elements:
    """Split the elements of one set."""
    found = _ELEMENTS.search(inner)
    if found is None:
        return frozenset()
    return frozenset(" ".join(element.split()) for element in _ELEMENT.findall(found[1]) if element.strip())


def blame(message: str, statements: Iterable[Statement]) -> tuple[NftTable | NftSet | Engine | Instruction | None, int]:
    """Find the statement in whose lines the first error is, and the errno that the message puts into words."""
    code = next((code for words, code in _ERRNOS if words in message), errno.EINVAL)
    found = _LINE.search(message)
    line = int(found[1]) if found else 0
    for statement in statements:
        line -= statement.text.count("\n") + 1
        if found and line <= 0:
            return statement.fact, code
    return None, code
