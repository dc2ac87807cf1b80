from pathlib import Path

import pytest

from images.steps import Built, fingerprint_of, remove, run, sha256, step


def counting(tmp_path: Path, values: list[object], paths: tuple[Path, ...] = ()) -> tuple[Built, list[Path]]:
    """Do a step; return what it says, and a list with one entry if it was made."""
    made: list[Path] = []

    def make(part: Path) -> None:
        made.append(part)
        part.write_text("contents")

    return step("a thing", tmp_path / "out" / "thing", paths, values, make), made


def test_a_step_is_done_once_for_the_same_inputs(tmp_path: Path) -> None:
    """The second time nothing is made; another value makes it anew."""
    first, made = counting(tmp_path, [1])
    again, nothing = counting(tmp_path, [1])
    other, anew = counting(tmp_path, [2])
    assert (len(made), len(nothing), len(anew)) == (1, 0, 1)
    assert first == again != other


def test_an_earlier_step_is_an_input_by_what_went_into_it(tmp_path: Path) -> None:
    """Not by its octets, which may be hundreds of megabytes."""
    earlier = tmp_path / "earlier"
    assert fingerprint_of([], [Built(earlier, "a")]) != fingerprint_of([], [Built(earlier, "b")])


def test_a_file_of_the_build_counts_by_its_contents_wherever_it_lies(tmp_path: Path) -> None:
    """Two builds in two directories make the same of the same package."""
    one, two, other = tmp_path / "one", tmp_path / "two", tmp_path / "other"
    for path, text in ((one, "x"), (two, "x"), (other, "y")):
        path.write_text(text)
    assert fingerprint_of([one], []) == fingerprint_of([two], []) != fingerprint_of([other], [])


def test_a_step_that_fails_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    """Neither the thing nor the note beside it; the old thing is not taken for the new one."""
    counting(tmp_path, [1])

    def fail(part: Path) -> None:
        part.write_text("half")
        raise OSError(28, "No space left on device")

    target = tmp_path / "out" / "thing"
    with pytest.raises(OSError, match="No space"):
        step("a thing", target, [], [2], fail)
    _, made = counting(tmp_path, [2])
    assert len(made) == 1
    assert target.read_text() == "contents"


def test_a_tree_takes_the_place_of_a_tree(tmp_path: Path) -> None:
    """What was in the old one is not in the new one."""

    def make(name: str) -> Built:
        return step("a tree", tmp_path / "tree", [], [name], lambda part: (part / name).mkdir(parents=True))

    make("old")
    assert [path.name for path in make("new").output.iterdir()] == ["new"]


def test_a_tool_that_fails_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """Its own words are in the message; when it succeeds nothing is shown."""
    assert run("sh", "-c", "echo well; echo noise >&2") == "well\n"
    assert capsys.readouterr().err == ""
    with pytest.raises(SystemExit, match=r"exit status 3\n.*because"):
        run("sh", "-c", "echo because >&2; exit 3")


def test_links_are_removed_and_never_followed(tmp_path: Path) -> None:
    """A link to a tree is not the tree."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "link").symlink_to("tree")
    remove(tmp_path / "link")
    remove(tmp_path / "absent")
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


def test_the_digest_is_that_of_the_octets(tmp_path: Path) -> None:
    """As sha256sum says it."""
    (tmp_path / "empty").touch()
    assert sha256(tmp_path / "empty").startswith("e3b0c44298fc1c14")
