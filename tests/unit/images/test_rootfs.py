import os
import stat
from pathlib import Path

from images import recipe, rootfs


def tree_with(tmp_path: Path, *names: str) -> Path:
    """Make a tree with these files."""
    for name in names:
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "tree"


def test_no_box_is_born_with_the_identity_of_another(tmp_path: Path) -> None:
    """Host keys and machine-id are made at the first start; the file that will hold the latter is there and empty."""
    tree = tree_with(
        tmp_path, "etc/ssh/ssh_host_ed25519_key", "etc/machine-id", "etc/ssh/sshd_config", "var/log/dpkg.log"
    )
    rootfs.thin(tree)
    assert [path.name for path in (tree / "etc/ssh").iterdir()] == ["sshd_config"]
    assert (tree / "etc/machine-id").read_bytes() == b""
    assert not (tree / "var/log/dpkg.log").exists()


def test_there_is_a_place_for_everything_that_initrd_mounts(tmp_path: Path) -> None:
    """Also where no package made one."""
    tree = tree_with(tmp_path, "usr/bin/true")
    rootfs.thin(tree)
    assert all((tree / name).is_dir() for name in recipe.DIRECTORIES)
    assert stat.S_IMODE((tree / "tmp").stat().st_mode) == 0o1777


def test_our_files_take_the_place_of_what_packages_brought(tmp_path: Path) -> None:
    """A link is copied as a link and never written through; a mask takes the place of a file; programs stay programs."""
    tree = tree_with(tmp_path, "etc/real", "etc/masked", "etc/plain")
    (tree / "etc/linked").symlink_to("real")
    files = tmp_path / "files/etc"
    files.mkdir(parents=True)
    (files / "linked").write_text("ours")
    (files / "masked").symlink_to("/dev/null")
    (files / "program").write_text("#!/bin/sh")
    (files / "program").chmod(0o700)
    rootfs.put_files(tmp_path / "files", tree)
    assert (tree / "etc/real").read_text() == "etc/real"
    assert (tree / "etc/linked").read_text() == "ours"
    assert (tree / "etc/masked").readlink() == Path("/dev/null")
    assert stat.S_IMODE((tree / "etc/program").stat().st_mode) == 0o755
    assert stat.S_IMODE((tree / "etc/linked").stat().st_mode) == 0o644


def test_a_module_stays_with_what_it_needs(tmp_path: Path) -> None:
    """Whatever directory that is in; a driver that no virtual machine has goes."""
    base = "usr/lib/modules/6.1"
    kept = ("kernel/net/netfilter/nf_tables.ko", "kernel/drivers/net/vrf.ko", "kernel/odd/helper.ko")
    gone = ("kernel/drivers/comedi/a.ko", "kernel/drivers/net/wwan/b.ko")
    tree = tree_with(tmp_path, *(f"{base}/{name}" for name in (*kept, *gone)))
    dependencies = [f"{name}:" for name in (*kept[1:], *gone)]
    (tree / base / "modules.dep").write_text("\n".join([f"{kept[0]}: {kept[2]}", *dependencies]))
    rootfs.keep_modules(tree / base)
    assert {str(path.relative_to(tree / base)) for path in tree.rglob("*.ko")} == set(kept)


def test_nothing_is_younger_than_the_build(tmp_path: Path) -> None:
    """What is older keeps its date; a link has a date too."""
    tree = tree_with(tmp_path, "old", "new")
    os.utime(tree / "old", (1000, 1000))
    (tree / "link").symlink_to("old")
    rootfs.settle(tree, 2000)
    assert {path.name: path.lstat().st_mtime for path in tree.iterdir()} == {"old": 1000, "new": 2000, "link": 2000}
    assert tree.stat().st_mtime == 2000
