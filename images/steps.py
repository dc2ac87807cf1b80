"""Steps of a build: each makes one thing, says how long it took, and is skipped while nothing that goes into it changes.

What goes into a step is files and trees of the repository, values, and earlier steps. A thing is made under another name
and renamed when it is whole, so a build that was cut leaves nothing that looks finished. `images/image.py` lists the steps.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from images.place import ROOT, fingerprint, is_made, made


@dataclass(frozen=True, slots=True)
class Built:
    """What a step made, and the fingerprint of everything that went into it: a value for later steps."""

    output: Path
    mark: str


def say(text: str) -> None:
    """Print a line for the person who waits, now."""
    print(f"image: {text}", flush=True)


def step(
    title: str, output: Path, paths: Sequence[Path], values: Sequence[object], make: Callable[[Path], object]
) -> Built:
    """Make `output` by `make(temporary path)`, unless it was made from the same files and values before."""
    mark = fingerprint_of(paths, values)
    if is_made(output, mark):
        return Built(output, mark)
    begun, part = time.monotonic(), output.with_name(f"{output.name}.part")
    say(f"{title} ...")
    output.parent.mkdir(parents=True, exist_ok=True)
    remove(part)
    make(part)
    remove(output)
    part.rename(output)
    made(output, mark)
    size = f", {output.stat().st_size / 1e6:.1f} MB" if output.is_file() else ""
    say(f"{title}: {time.monotonic() - begun:.1f} s{size}")
    return Built(output, mark)


def fingerprint_of(paths: Sequence[Path], values: Sequence[object]) -> str:
    """Return a text that changes with files, values and earlier steps; of a file of the build only the contents count."""
    sources = [path for path in paths if path.is_relative_to(ROOT)]
    others = [sha256(path) for path in paths if not path.is_relative_to(ROOT)]
    return fingerprint(sources, *others, *(value.mark if isinstance(value, Built) else value for value in values))


def remove(path: Path) -> None:
    """Remove a file or a tree; nothing to do when there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Return the digest of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run(*words: str | Path, environ: Mapping[str, str] | None = None, text: str | None = None) -> str:
    """Run a tool; return what it printed. What it says otherwise is shown only when it fails, and then all of it."""
    # The tools' messages, sorting and dates follow the person's settings otherwise.
    clean = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC", **(environ or {})}
    done = subprocess.run([*map(str, words)], env=clean, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
