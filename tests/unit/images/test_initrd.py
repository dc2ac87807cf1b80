import subprocess
from pathlib import Path

import pytest

from images import initrd
from images.recipe import EARLY_MODULES


def test_the_archive_is_what_cpio_reads(tmp_path: Path) -> None:
    """Directories, links and programs; everything is root's and has the one date."""
    stage, out = tmp_path / "stage", tmp_path / "out"
    (stage / "bin").mkdir(parents=True)
    out.mkdir()
    (stage / "bin/program").write_text("#!/bin/sh\n")
    (stage / "bin/program").chmod(0o700)
    (stage / "bin/link").symlink_to("program")
    archive = b"".join(initrd.cpio(stage, 1_700_000_000))
    subprocess.run(["cpio", "--quiet", "-id"], cwd=out, input=archive, check=True)
    assert (out / "bin/link").readlink() == Path("program")
    assert (out / "bin/program").read_text() == "#!/bin/sh\n"
    assert (out / "bin/program").stat().st_mode & 0o777 == 0o755
    listed = subprocess.run(
        ["cpio", "--quiet", "-itvn"], input=archive, check=True, capture_output=True
    ).stdout.decode()
    assert all(line.split()[2:4] == ["0", "0"] for line in listed.splitlines())


def test_a_module_comes_with_what_it_needs(tmp_path: Path) -> None:
    """Each once, though several need it; a hyphen in a file's name is as the kernel has it."""
    lines = [f"kernel/{name}.ko: kernel/common.ko" for name in EARLY_MODULES]
    (tmp_path / "modules.dep").write_text("\n".join([*lines, "kernel/common.ko:", "kernel/unused.ko:"]))
    found = {path.name for path in initrd.early_modules(tmp_path)}
    assert found == {"common.ko", *(f"{name}.ko" for name in EARLY_MODULES)}


def test_a_kernel_that_lacks_a_module_is_told_before_it_fails_to_boot(tmp_path: Path) -> None:
    """By name."""
    (tmp_path / "modules.dep").write_text("kernel/fs/squashfs.ko:\n")
    with pytest.raises(SystemExit, match="virtio_blk"):
        initrd.early_modules(tmp_path)


def test_init_is_a_script_that_its_shell_can_read() -> None:
    """Busybox's own: it is not bash."""
    done = subprocess.run([initrd.BUSYBOX, "sh", "-n", initrd.INIT], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_init_calls_only_what_is_there() -> None:
    """Every applet that the initrd links is one of this busybox."""
    listed = subprocess.run([initrd.BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    assert set(initrd.APPLETS) <= set(listed)
