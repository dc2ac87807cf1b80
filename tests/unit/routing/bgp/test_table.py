"""The table of prefixes: both forms against a plain dictionary, on random walks and by hand."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.bgp.nlri import each
from tests.support.hot import PYTHON, C, Form, both_forms, both_widths, hostile, needs_c, outcome, packed, prefixes


class Label:
    """Something that is only ever itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        """Name it in what a failed test says."""
        return self.name


A, B, D, E = LABELS = tuple(Label(name) for name in "ABDE")
ONE, TWO, THREE = (bytes((24, 10, 0, number)) for number in (1, 2, 3))


def to(label: Any) -> Any:
    """Make a step that leads to one label from everywhere."""
    return lambda _: label


# --- by hand ---


@both_forms
def test_a_step_is_asked_once_for_each_label(form: Form) -> None:
    """In order of appearance; what it leaves alone is not told."""
    table = form.PrefixTable(32)
    table.relabel(ONE, to(A))
    asked: list[Any] = []

    def step(label: Any) -> Any:
        asked.append(label)
        return label or B

    assert table.relabel(TWO + ONE + THREE, step) == [(None, B, 2)]
    assert asked == [None, A]
    assert (table.get(ONE), table.get(TWO), table.get(THREE), len(table)) == (A, B, B, 3)


@both_forms
def test_changes_are_the_net_effect(form: Form) -> None:
    """By pairs in order of their first prefix; what is again what it was is not told, and nothing is told twice."""
    table = form.PrefixTable(32)
    table.relabel(ONE + TWO + THREE, to(A))
    assert table.take_changes() == [(None, A, ONE + TWO + THREE, 3)]
    table.relabel(THREE + ONE, to(B))
    table.relabel(TWO, to(None))
    table.relabel(THREE, to(A))
    assert table.take_changes() == [(A, B, ONE, 1), (A, None, TWO, 1)]
    assert table.take_changes() == []
    table.relabel(TWO, to(B))
    table.relabel(TWO, to(None))
    assert table.take_changes() == []


@both_forms
def test_a_prefix_that_is_there_twice_counts_once(form: Form) -> None:
    """Even for a step that would not leave its own answer alone."""
    table = form.PrefixTable(32)
    following = {None: A, A: B, B: D}
    assert table.relabel(ONE + ONE, following.get) == [(None, A, 1)]
    assert table.relabel(ONE + TWO + ONE + TWO, following.get) == [(A, B, 1), (None, A, 1)]
    assert table.take_changes() == [(None, B, ONE, 1), (None, A, TWO, 1)]


@both_forms
def test_all_prefixes_of_a_label_move_together(form: Form) -> None:
    """To another label, to one that is there, to nothing; a label that is not there has none."""
    table = form.PrefixTable(32)
    table.relabel(ONE + TWO, to(A))
    table.relabel(THREE, to(B))
    assert table.relabel_all(D, A) == 0
    assert table.relabel_all(A, A) == 0
    assert table.relabel_all(A, B) == 2
    assert (table.of(B), table.size(B)) == (THREE + ONE + TWO, 3)
    assert (table.of(A), table.size(A)) == (b"", 0)
    assert table.relabel_all(B, None) == 3
    assert (len(table), table.labels(), table.take_changes()) == (0, [], [])
    assert table.relabel_all(None, A) == 0


@both_forms
def test_prefixes_are_found_by_their_label(form: Form) -> None:
    """Labels in order of appearance, None for what is not there, and every mention counts."""
    table = form.PrefixTable(32)
    table.relabel(TWO, to(A))
    assert table.within(ONE + TWO + THREE + TWO) == [(None, ONE + THREE), (A, TWO + TWO)]
    assert table.within(b"") == []
    assert table.labels() == [(A, 1)]


@both_forms
def test_a_step_that_raises_changes_nothing(form: Form) -> None:
    """Not even for the labels that it had an answer for."""
    table = form.PrefixTable(32)
    table.relabel(ONE, to(A))
    table.take_changes()

    def step(label: Any) -> Any:
        if label is A:
            raise LookupError
        return B

    with pytest.raises(LookupError):
        table.relabel(TWO + ONE, step)
    assert (table.get(ONE), table.get(TWO), len(table), table.take_changes()) == (A, None, 1, [])
    assert table.relabel(TWO + ONE, to(D)) == [(None, D, 1), (A, D, 1)]


@both_forms
@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.relabel(ONE, to(B)),
        lambda table: table.relabel_all(A, B),
        lambda table: table.take_changes(),
    ],
)
def test_a_step_must_not_change_the_table(form: Form, change: Any) -> None:
    """It may look, and sees what was there before the call."""
    table = form.PrefixTable(32)
    table.relabel(ONE, to(A))
    seen: list[Any] = []

    def step(label: Any) -> Any:
        seen.append((table.get(ONE), table.of(A), table.within(TWO + ONE), table.labels(), len(table)))
        change(table)
        return label

    with pytest.raises(RuntimeError, match="must not change"):
        table.relabel(TWO + ONE, step)
    assert seen == [(A, ONE, [(None, TWO), (A, ONE)], [(A, 1)], 1)]
    assert table.relabel(TWO, to(B)) == [(None, B, 1)]


@both_forms
def test_a_step_that_cannot_be_called_is_an_error(form: Form) -> None:
    """And the table is what it was."""
    table = form.PrefixTable(32)
    with pytest.raises(TypeError):
        table.relabel(ONE, None)
    assert (len(table), table.take_changes()) == (0, [])


@both_forms
def test_labels_live_as_long_as_the_table_needs_them(form: Form) -> None:
    """While they have a prefix, and until the change that took the last one is told."""
    table = form.PrefixTable(32)
    label = Label("gone")
    alive = weakref.ref(label)
    table.relabel(ONE, to(label))
    table.take_changes()
    del label
    assert table.get(ONE) is alive() is not None
    table.relabel(ONE, to(A))
    assert alive() is not None
    changes = table.take_changes()
    assert changes[0][0] is alive()
    del changes
    assert alive() is None


@both_forms
def test_a_label_nobody_was_told_of_goes_with_its_last_prefix(form: Form) -> None:
    """A step may make labels that are replaced before anybody asks."""
    table = form.PrefixTable(32)
    label = Label("brief")
    alive = weakref.ref(label)
    table.relabel(ONE, to(label))
    table.relabel(ONE, to(None))
    del label
    assert alive() is None
    assert table.take_changes() == []


@both_forms
def test_the_collector_sees_through_the_table(form: Form) -> None:
    """A label that knows its table is a cycle, and no leak."""
    table = form.PrefixTable(32)
    label: Any = Label("cycle")
    label.table = table
    alive = weakref.ref(label)
    table.relabel(ONE, to(label))
    del label, table
    gc.collect()
    assert alive() is None


@both_forms
@pytest.mark.parametrize("octets", [b"\x21" + bytes(5), b"\x18\0", b"\x20\1\2\3\4\x08"])
def test_octets_that_are_no_prefixes_change_nothing(form: Form, octets: bytes) -> None:
    """What a bad end makes of it is not half done."""
    table = form.PrefixTable(32)
    for call in (lambda: table.relabel(ONE + octets, to(A)), lambda: table.within(ONE + octets)):
        with pytest.raises(ValueError, match="NLRI"):
            call()
    assert len(table) == 0
    assert table.get(octets) is table.get(b"") is table.get(ONE + TWO) is None


@both_forms
def test_a_table_is_of_ipv4_or_ipv6_and_generic_in_its_labels(form: Form) -> None:
    """Nothing else has prefixes; the label type is for the reader."""
    with pytest.raises(ValueError, match="width"):
        form.PrefixTable(64)
    assert len(form.PrefixTable[Label](128)) == 0


# --- at size ---


@both_forms
@both_widths
def test_many_prefixes_and_many_labels_come_and_go(form: Form, width: int) -> None:
    """Twenty thousand prefixes, thousands of labels, both given up in another order than they came, three times."""
    table = form.PrefixTable(width)
    head = b"" if width == 32 else bytes.fromhex("20010db800000000")
    size = 32 if width == 32 else 96
    octets = [bytes((size,)) + head + (number * 2654435761 % (1 << 32)).to_bytes(4, "big") for number in range(20_000)]
    labels = [Label(str(number)) for number in range(4_000)]
    for _ in range(3):
        for number, label in enumerate(labels):
            assert table.relabel(b"".join(octets[number::4000]), to(label)) == [(None, label, 5)]
        assert [change[1:] for change in table.take_changes()] == [
            (label, b"".join(octets[number::4000]), 5) for number, label in enumerate(labels)
        ]
        following = dict(pairwise(labels))
        assert len(table.relabel(b"".join(octets), lambda label, then=following: then.get(label))) == 4000
        assert len(table) == 19_995
        assert table.of(labels[1]) == b"".join(octets[0::4000])
        table.relabel(b"".join(octets[::-3]), to(None))
        for label in labels[::-1]:
            table.relabel_all(label, None)
        assert len(table) == len(table.labels()) == 0
        assert sum(count for *_, count in table.take_changes()) == 20_000


# --- on random walks ---


class Model:
    """The table as plainly as it can be said."""

    def __init__(self) -> None:
        self.now: dict[bytes, Any] = {}
        self.told: dict[bytes, Any] = {}

    def relabel(self, nlri: bytes, step: Any) -> Counter[Any]:
        """Change prefix by prefix; count what became what."""
        moves: Counter[Any] = Counter()
        before = {prefix: self.now.get(prefix) for prefix in each(nlri)}
        for prefix, label in before.items():
            after = step(label)
            moves[label, after] += label is not after
            self.now[prefix] = after
            if after is None:
                del self.now[prefix]
        return +moves

    def changes(self) -> dict[Any, set[bytes]]:
        """Compare what is with what was told."""
        found: dict[Any, set[bytes]] = {}
        for prefix in {**self.now, **self.told}:
            pair = self.told.get(prefix), self.now.get(prefix)
            if pair[0] is not pair[1]:
                found.setdefault(pair, set()).add(prefix)
        self.told = dict(self.now)
        return found

    def of(self, label: Any) -> set[bytes]:
        """Look at every prefix."""
        return {prefix for prefix, is_label in self.now.items() if is_label is label}


labels = st.sampled_from((None, *LABELS))
steps = st.tuples(*[labels] * 5).map(lambda made: dict(zip((None, *LABELS), made, strict=True)))


def walks(width: int) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """Make sequences of operations over few prefixes, so that they meet."""
    few = st.lists(prefixes(width), min_size=1, max_size=12).flatmap(
        lambda known: st.lists(st.sampled_from(known), max_size=10).map(b"".join)
    )
    nlri = st.one_of(few, packed(width, 12))
    operations = st.one_of(
        st.tuples(st.just("relabel"), nlri, steps),
        st.tuples(st.just("relabel"), nlri, labels.map(lambda label: dict.fromkeys((None, *LABELS), label))),
        st.tuples(st.just("relabel_all"), st.sampled_from(LABELS), labels),
        st.tuples(st.just("take_changes")),
        st.tuples(st.just("within"), nlri),
    )
    return st.lists(operations, max_size=30)


def check_step(table: Any, model: Model, operation: tuple[Any, ...]) -> Any:
    """Do one operation on both and compare; return what the table said."""
    name, *arguments = operation
    if name == "relabel":
        said = table.relabel(arguments[0], arguments[1].get)
        assert {(before, after): count for before, after, count in said} == model.relabel(
            arguments[0], arguments[1].get
        )
    elif name == "relabel_all":
        said = table.relabel_all(*arguments)
        prefixes_of = model.of(arguments[0])
        model.relabel(b"".join(prefixes_of), to(arguments[1]))
        assert said == (0 if arguments[0] is arguments[1] else len(prefixes_of))
    elif name == "take_changes":
        said = table.take_changes()
        assert {(before, after): set(each(nlri)) for before, after, nlri, _ in said} == model.changes()
        assert all(count == len(each(nlri)) for *_, nlri, count in said)
    else:
        said = table.within(*arguments)
        assert [(label, prefix) for label, nlri in said for prefix in each(nlri)] == sorted(
            ((model.now.get(prefix), prefix) for prefix in each(arguments[0])),
            key=lambda found: [label for label, _ in said].index(found[0]),
        )
    return said


def check_state(table: Any, model: Model) -> None:
    """Compare everything that can be asked."""
    assert len(table) == len(model.now)
    assert dict(table.labels()) == Counter(model.now.values())
    for label in LABELS:
        octets = table.of(label)
        assert set(each(octets)) == model.of(label)
        assert len(each(octets)) == len(model.of(label))
    for prefix, label in model.now.items():
        assert table.get(prefix) is label


@both_forms
@both_widths
@given(data=st.data())
def test_a_walk_ends_where_a_dictionary_ends(form: Form, width: int, data: st.DataObject) -> None:
    """Whatever is done in whatever order."""
    table, model = form.PrefixTable(width), Model()
    for operation in data.draw(walks(width)):
        check_step(table, model, operation)
        check_state(table, model)


@needs_c
@both_widths
@given(data=st.data())
def test_both_forms_say_the_same_in_the_same_order(width: int, data: st.DataObject) -> None:
    """Not only the same sets."""
    tables = [form.PrefixTable(width) for form in (PYTHON, C)]
    models = [Model(), Model()]
    for operation in data.draw(walks(width)):
        said = [check_step(table, model, operation) for table, model in zip(tables, models, strict=True)]
        assert said[0] == said[1]
        for label in LABELS:
            assert tables[0].of(label) == tables[1].of(label)


@needs_c
@both_widths
@given(nlri=hostile, more=hostile)
def test_both_forms_do_the_same_with_anything(width: int, nlri: bytes, more: bytes) -> None:
    """Host bits and all: a table compares octets."""
    said = []
    for form in (PYTHON, C):
        table = form.PrefixTable(width)
        said.append(
            [
                outcome(table.relabel, nlri, to(A)),
                outcome(table.relabel, more, {A: B, None: D}.get),
                outcome(table.within, nlri + more),
                outcome(table.get, nlri),
                outcome(table.take_changes),
                len(table),
            ]
        )
    assert said[0] == said[1]
