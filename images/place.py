"""Where things are built, by one build at a time, and whether what is there is what would be built again.

Called by every command of `images`. Everything lies in build/; what takes long and depends on pins alone in build/cache/.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
BUILD: Final = ROOT / "build"
#: What a tree of sources holds that nothing is made from.
_NO_SOURCE: Final = frozenset({"__pycache__", ".mypy_cache", ".ruff_cache"})

_held: list[Path] = []


@contextmanager
def alone(build: Path = BUILD) -> Iterator[None]:
    """Be the only build of this directory; the second of two waits. A build may call another one inside its own."""
    if build in _held:
        yield
        return
    build.mkdir(exist_ok=True)
    with (build / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _held.append(build)
        try:
            yield
        finally:
            _held.remove(build)
            # By name: a process that was forked meanwhile, and is not yet another program, holds it too.
            fcntl.flock(lock, fcntl.LOCK_UN)


def sources(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files of these files and trees, sorted, without what Python and the compilers leave beside them."""
    for path in paths:
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in found:
            if file.is_file() and not _NO_SOURCE.intersection(file.parts) and file.suffix not in {".pyc", ".so"}:
                yield file


def fingerprint(paths: Iterable[Path], *values: object, root: Path = ROOT) -> str:
    """Return a text that is another one as soon as a file, its name or mode, or a value is another."""
    digest = hashlib.sha256(repr(values).encode())
    for file in sources(paths):
        mode = file.stat().st_mode & 0o111
        digest.update(f"\0{file.relative_to(root)}\0{mode}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def is_made(product: Path, mark: str) -> bool:
    """Tell whether the product is there and was made from what has this fingerprint."""
    noted = _note(product)
    return product.exists() and noted.is_file() and noted.read_text(encoding="ascii") == mark


def made(product: Path, mark: str) -> None:
    """Remember what the product was made from."""
    _note(product).write_text(mark, encoding="ascii")


def _note(product: Path) -> Path:
    return product.with_name(f".{product.name}.made-from")
