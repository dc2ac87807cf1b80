"""A table that changes under packets: the way from one body to another that no packet falls into (design 0004).

Pure; called by `nft_script` and `nft`. Three transactions, because the kernel shows rules at one moment and the elements
of interval sets a little later:

1. `prepare`: sets that are new, with all their elements, and empty chains for what leads there. Nobody looks yet.
2. `exchange`: all rules of the body at once; every packet goes by the old ones or by the new ones.
3. `remove`: what the new body has no place for.

That needs names: what the two bodies both declare must be declared alike. Otherwise `Body.follows` says no, and the table
is made anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from appliance.kernel.nft_text import MADE_FROM, TABLE, Name, made_from
from appliance.model.marks import engine_chain

_BEGIN: Final = re.compile(r"(set|map|counter|chain)\s+([\w.-]+)\s*\{")
_SPACE: Final = re.compile(r"(?:\s|;|#[^\n]*)*")
_HOOK: Final = re.compile(r"\btype\s+\w+\s+hook\s[^\n;]*;(?:\s*policy\s+\w+\s*;?)?")
_ENGINE: Final = re.compile(rf"{engine_chain(1)[:-1]}\d+")


@dataclass(frozen=True, slots=True)
class Body:
    """A body in pieces: the text of each by its name; of chains with a hook, that as well."""

    pieces: Mapping[Name, str]
    hooks: Mapping[str, str]

    def follows(self, old: Body) -> bool:
        """Tell whether all that both have is declared alike: sets wholly, chains by their hook."""
        return all(self._kind(name) == old._kind(name) for name in self.pieces.keys() & old.pieces.keys())

    def _kind(self, name: Name) -> str:
        kind, word = name
        return self.hooks.get(word, "") if kind == "chain" else self.pieces[name]

    @property
    def chains(self) -> dict[str, str]:
        """Return the chains whose rules are the body's; those that stamp are filled by others."""
        return {
            word: text for (kind, word), text in self.pieces.items() if kind == "chain" and not _ENGINE.fullmatch(word)
        }


@lru_cache(maxsize=64)
def body(text: str) -> Body | None:
    """Take a body apart; None if there is something in it that is not known here."""
    pieces: dict[Name, str] = {}
    hooks: dict[str, str] = {}
    place = _end(_SPACE, text, 0)
    while place < len(text):
        begin = _BEGIN.match(text, place)
        if begin is None:
            return None
        end = _closing(text, begin.end())
        kind, word = begin[1], begin[2]
        if kind == "chain":
            pieces[kind, word] = text[place:end]
            if hook := _HOOK.search(text, begin.end(), end):
                hooks[word] = " ".join(hook[0].split())
        else:
            pieces["set" if kind == "map" else kind, word] = " ".join(text[place:end].split())
        place = _end(_SPACE, text, end)
    return Body(pieces, hooks)


def _end(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    return found.end() if found else place


def _closing(text: str, place: int) -> int:
    """Return where the braces that are open close; quotes hold none of ours."""
    depth = 1
    while depth and place < len(text):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        place += 1
    return place


def prepare(old: Body, new: Body) -> tuple[str, frozenset[Name]]:
    """Return the text that declares what is new and nobody comes to by itself, and what that is; no text if nothing."""
    fresh = [name for name in new.pieces if name not in old.pieces and (name[0] != "chain" or name[1] not in new.hooks)]
    lines = [f"chain {name[1]} {{ }}" if name[0] == "chain" else new.pieces[name] for name in fresh]
    return "\n".join([f"table {TABLE} {{", *lines, "}"]) if fresh else "", frozenset(fresh)


def exchange(old: Body, new: Body, text: str) -> str:
    """Return the text that exchanges the rules of all chains; `text` is the new body."""
    flushed = [word for word in old.chains if word in new.chains or word in old.hooks]
    gone = [word for word in old.hooks if word not in new.hooks]
    return "\n".join(
        [
            *(f"flush chain {TABLE} {word}" for word in (*flushed, MADE_FROM)),
            *(f"delete chain {TABLE} {word}" for word in gone),
            f"table {TABLE} {{",
            *new.chains.values(),
            made_from(text),
            "}",
        ]
    )


def surplus(new: Body, held: Iterable[Name]) -> frozenset[Name]:
    """Return what the table has and the body has no place for."""
    return frozenset(name for name in held if name not in new.pieces and name != ("chain", MADE_FROM))


def remove(names: Iterable[Name]) -> Iterator[str]:
    """Yield the lines that remove them: nothing may lead to what goes."""
    every = sorted(names)
    chains = [word for kind, word in every if kind == "chain"]
    yield from (f"flush chain {TABLE} {word}" for word in chains)
    yield from (f"delete set {TABLE} {word}" for kind, word in every if kind == "set")
    yield from (f"delete chain {TABLE} {word}" for word in chains)
    yield from (f"delete counter {TABLE} {word}" for kind, word in every if kind == "counter")
