"""Which form of the hot layer is taken, and that it is built where it can be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from routing.bgp import hot
from tests.support.hot import PYTHON, C, needs_c

ROOT = Path(__file__).resolve().parents[4]
NAMES = set(vars(PYTHON))


def taken(**environment: str) -> str:
    """Ask a new process which form it took."""
    program = "from routing.bgp import hot; print(hot.COMPILED, hot.PrefixTable.__module__, hot.scan.__module__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_the_c_form_is_built_where_it_can_be() -> None:
    """`make setup` does it: tests that skip the C form for want of it must not hide that it is not there."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    assert C is not None or compiler is None or not headers.exists()


@needs_c
def test_the_c_form_is_taken_if_it_is_there() -> None:
    """Unless the environment asks for the reference."""
    assert taken(EDGEWAY_PURE="") == "True routing.bgp._hot routing.bgp._hot"
    assert taken(EDGEWAY_PURE="1") == "False routing.bgp.table routing.bgp.scan"


def test_without_the_c_form_there_is_the_reference() -> None:
    """A machine without a compiler runs the same, slower."""
    program = """
import sys
sys.modules["routing.bgp._hot"] = None
from routing.bgp import hot
print(hot.COMPILED, hot.PrefixTable.__module__)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "routing.bgp.table"]


def test_the_facade_offers_all_there_is() -> None:
    """And both forms have it."""
    assert set(hot.__all__) == NAMES | {"COMPILED", "end_of_rib"}
    assert all(hasattr(hot, name) for name in hot.__all__)


@needs_c
def test_the_c_form_holds_what_its_types_say() -> None:
    """The stub gives the types of the reference to the very same names."""
    stub = (ROOT / "routing" / "bgp" / "_hot.pyi").read_text()
    assert {name for name in vars(C) if not name.startswith("_")} == NAMES
    assert {line.split()[-1] for line in stub.splitlines() if line.startswith("from")} == NAMES


@needs_c
@pytest.mark.parametrize(
    "call",
    [
        lambda: C.normal(bytearray(b"\0"), 32),
        lambda: C.normal(b""),
        lambda: C.count(None),
        lambda: C.cut(b"", "1"),
        lambda: C.split("", 4096),
        lambda: C.split(b"", None),
        lambda: C.lift(1),
        lambda: C.scan(b""),
        lambda: C.scan(b"", external=True),
        lambda: C.scan(internal=True),
        lambda: C.announce(b"", b"", None),
        lambda: C.withdraw("", b"", 4096),
        lambda: C.PrefixFilter(32),
        lambda: C.PrefixFilter(32, 5),
        lambda: C.PrefixFilter(32, [(b"\0", "", 1)]),
        lambda: C.PrefixFilter(32, []).split(None),
        lambda: C.PrefixTable(None, 32),
        lambda: C.PrefixTable("32"),
        lambda: C.PrefixTable(32).relabel(b"", None, None),
        lambda: C.PrefixTable(32).get(32),
    ],
)
def test_arguments_of_other_types_are_refused(call: object) -> None:
    """C must not take one thing for another."""
    assert callable(call)
    with pytest.raises(TypeError):
        call()
