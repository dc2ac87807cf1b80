"""The package on a machine: it installs, runs what it brings with the rights it says, and leaves nothing behind.

With EDGEWAY_IMAGE=all: the package is built, twice, and installed into a small Debian that is made once (build/cache).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from images import deb
from images.place import BUILD, ROOT, fingerprint
from tests.support.booted import Booted, booted, control_groups
from tests.support.intents import bare, one_vpc, to_yaml
from tests.support.waiting import eventually

UNITS = ROOT / "packaging" / "systemd"
#: What apt notes about its own work, and what every start of a system leaves.
OTHERS = re.compile(
    r"(var/(lib/(dpkg|systemd|dbus|apt)|log|cache|tmp|spool)|tmp|run|dev|proc|sys|root|mnt)(/|$)"
    r"|etc/(passwd|shadow|group|gshadow|subuid|subgid)-$|etc/(machine-id|\.pwd\.lock|\.updated|resolv\.conf)$|var/\.updated$"
    r"|etc/systemd/system(/|$)"
)
pytestmark = [pytest.mark.image, pytest.mark.timeout(1800)]
whole = pytest.mark.skipif(os.environ.get("EDGEWAY_IMAGE") != "all", reason="builds and installs: make image-test")


def exposure(unit: Path) -> float:
    """Return what `systemd-analyze security` makes of a unit: 0 is nothing to fear, 10 everything."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--no-pager", "--offline=true", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stderr
    return float(found[1])


@pytest.mark.parametrize(
    ("unit", "most"),
    [
        ("edgeway-native@.service", 2.0),
        ("edgeway-gobgp@.service", 2.0),
        ("edgeway-exabgp@.service", 2.0),
        ("edgeway.service", 5.0),
    ],
)
def test_a_unit_has_next_to_no_rights(unit: str, most: float) -> None:
    """Engines read what strangers send. The daemon owns the machine's network; why it keeps what is beside each thing."""
    assert exposure(UNITS / unit) <= most


def test_engines_differ_in_their_name_only() -> None:
    """What one of them may is said once."""
    texts = {
        (UNITS / f"edgeway-{kind}@.service")
        .read_text()
        .partition("ConditionPathExists=")[2]
        .replace(f"/{kind}/", "/KIND/")
        .replace(f"-{kind}-", "-KIND-")
        for kind in ("native", "gobgp", "exabgp")
    }
    assert len(texts) == 1


def test_the_changelog_is_one_for_dpkg() -> None:
    """It names the version and the date of the build."""
    text = deb.changelog("1.2.3", 1_700_000_000)
    assert text.startswith("edgeway (1.2.3) stable; urgency=")
    assert text.endswith(">  Tue, 14 Nov 2023 22:13:20 -0000\n")


@pytest.fixture(scope="module")
def package() -> Path:
    """Return the package; EDGEWAY_DEB names one that was built elsewhere."""
    elsewhere = os.environ.get("EDGEWAY_DEB")
    return Path(elsewhere) if elsewhere else deb.build_package()


@whole
def test_the_same_sources_give_the_same_octets(package: Path, tmp_path: Path) -> None:
    """Anybody can build it again and compare; nothing is taken from the first build, dependencies neither."""
    again = deb.build_package(tmp_path)
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(package.read_bytes()).digest()


@whole
def test_debian_finds_nothing_wrong_with_it(package: Path) -> None:
    """What lintian says is mended, or overridden with a reason in packaging/lintian-overrides."""
    done = subprocess.run(["lintian", "--allow-root", str(package)], capture_output=True, text=True, check=False)
    said = [line for line in done.stdout.splitlines() if line.startswith(("E:", "W:"))]
    assert (done.returncode, said) == (0, [])


@pytest.fixture(scope="module")
def debian() -> Path:
    """Return a tree with all that the package depends on, and not the package."""
    needed = re.search(r"^Depends: (.*)$", (ROOT / "packaging/deb/control").read_text(), re.MULTILINE)
    assert needed
    names = sorted({name.partition("|")[0].split()[0] for name in needed[1].split(",")})
    # Without systemd-sysv there is no /sbin/init, which systemd asks for when it starts itself again.
    include = ",".join([*names, "systemd-sysv", "dbus", "gobgpd"])
    tree = BUILD / "cache" / f"debian-{fingerprint([], include)[:16]}"
    if not tree.is_dir():
        made = tree.with_suffix(".part")
        shutil.rmtree(made, ignore_errors=True)
        options = ("--mode=root", "--variant=minbase", "--skip=check/empty", f"--include={include}")
        subprocess.run(["mmdebstrap", *options, "bookworm", str(made)], check=True, capture_output=True)
        (made / "etc/machine-id").write_text("")
        made.rename(tree)
    return tree


@pytest.fixture
def machine(debian: Path, tmp_path: Path) -> Path:
    """Return a copy of it."""
    subprocess.run(["cp", "-a", "--reflink=auto", str(debian), str(tmp_path / "root")], check=True)
    return tmp_path / "root"


def files(tree: Path) -> dict[str, str]:
    """Return what lies in a tree, with what it is."""
    found = {}
    for path in sorted(tree.rglob("*")):
        name = str(path.relative_to(tree))
        if OTHERS.match(name):
            continue
        what = path.lstat()
        text = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        octets = text if isinstance(text, bytes) else os.fsencode(text)
        found[name] = f"{stat.filemode(what.st_mode)} {what.st_uid}:{what.st_gid} {hashlib.sha1(octets).hexdigest()}"  # noqa: S324
    return found


def inside(tree: Path, *words: str) -> str:
    """Run a command in a tree, without booting it."""
    done = subprocess.run(
        ["chroot", str(tree), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@whole
def test_it_installs_starts_nothing_and_leaves_nothing(package: Path, machine: Path) -> None:
    """In a tree that is not running, as images and containers are made."""
    before = files(machine)
    shutil.copy(package, machine / "tmp")
    inside(machine, "dpkg", "-i", f"/tmp/{package.name}")
    assert "edgeway:" in (machine / "etc/passwd").read_text()
    assert not list((machine / "etc/systemd").rglob("edgeway*"))
    assert "Usage: edgeway" in inside(machine, "edgeway", "--help")
    (machine / "tmp/intent.yaml").write_text(to_yaml(one_vpc()))
    assert "nothing wrong" in inside(machine, "edgeway", "check", "/tmp/intent.yaml")
    paths = inside(machine, "/usr/bin/python3", "-IS", "-c", "import sys; print(sys.path)")
    assert "dist-packages" not in paths
    (machine / "var/lib/edgeway/state").touch()
    inside(machine, "dpkg", "--purge", "edgeway")
    assert files(machine) == before


@pytest.fixture
def running(package: Path, machine: Path, namespace_token: str) -> Iterator[Booted]:
    """Boot a machine with the package installed and interfaces."""
    if control_groups() is None:
        pytest.skip("systemd needs control groups of version 2")
    shutil.copy(package, machine / "root")
    inside(machine, "dpkg", "-i", f"/root/{package.name}")
    with booted(machine, f"{namespace_token}-deb") as made:
        for name in ("eth1", "eth2", "tap11", "tap13"):
            made.run("ip", "link", "add", name, "type", "veth", "peer", "name", f"x{name}")
            made.run("ip", "link", "set", name, "up")
            made.run("ip", "link", "set", f"x{name}", "up")
        yield made


def configure(made: Booted, machine: Path, node: str, engine: str) -> None:
    """Let the daemon run a node of a zone with a VPC."""
    tree = one_vpc() if node == "h1" else bare()
    for each in tree["nodes"].values():
        each["engine"] = engine
    (machine / "etc/edgeway/intent.yaml").write_text(to_yaml(tree))
    (machine / "etc/edgeway/node").write_text(f"{node}\n")
    made.run("systemctl", "restart", "edgeway")
    made.run("edgeway", "ready", "--wait", "120")


def shown(made: Booted, what: str, unit: str) -> str:
    """Return what systemd knows of a unit."""
    return made.run("systemctl", "show", "-p", what, "--value", unit).strip()


@whole
@pytest.mark.parametrize("engine", ["native", "gobgp", "exabgp"])
def test_the_daemon_and_its_engines_run_as_units(running: Booted, machine: Path, engine: str) -> None:
    """With all that a host does; the engine outlives the daemon and is adopted; what the unit may is enough for both."""
    assert "it can be configured" in running.run("edgeway", "ready")
    configure(running, machine, "h1", engine)
    unit = f"edgeway-{engine}@router.service"
    pid = shown(running, "MainPID", unit)
    status = running.run("cat", f"/proc/{pid}/status")
    assert "\nUid:\t0" not in status
    assert "\nNoNewPrivs:\t1" in status
    if engine == "native":
        assert re.search(r"\nCapEff:\t0+\nCapBnd", status), "what it could bind with is given back"
    running.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "edgeway")
    eventually(lambda: shown(running, "NRestarts", "edgeway") == "1", within=60, what="systemd starts it again")
    running.run("edgeway", "ready", "--wait", "120")
    assert shown(running, "MainPID", unit) == pid
    assert "vpc-red" in running.run("ip", "netns"), "its namespaces are the machine's"
    refused = running.run("journalctl", "-o", "cat", "-u", "edgeway")
    assert "Permission denied" not in refused
    assert "not permitted" not in refused


@whole
def test_it_leaves_a_running_machine_as_it_was(running: Booted, machine: Path) -> None:
    """No process, no file, no user: as far as the package goes, the machine never had it."""
    configure(running, machine, "rs1", "native")
    assert running.run("systemctl", "list-units", "--failed", "--no-legend", "edgeway*") == ""
    running.run("dpkg", "--purge", "edgeway")
    assert not running.succeeds("getent", "passwd", "edgeway")
    assert "edgeway" not in running.run("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    found = running.run("find", "/etc", "/usr", "/lib", "/var/lib", "/run", "-name", "*edgeway*", check=False)
    assert found == ""
