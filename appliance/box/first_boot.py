"""The beginning of every boot: take the seed if there is a new one, carry out what was taken, open the console if asked.

One process, before udev names the interfaces and before networkd, sshd and the daemon start. Nothing here ends the boot:
what went wrong is said on the console, and the box comes up as far as it can. Called by `appliance.box.__main__`.
"""

from __future__ import annotations

import os

from appliance.box import ground, record, volume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.box.record import Record

DATA = "/data"
RUN = "/run/edgeway-box"
#: Where a directory may be laid instead of a volume: the next boot takes it as one, once.
WAITING = "new"
MS_READ_ONLY = 1 | 2 | 4 | 8  # no set-uid, no devices, no programs


def main(root: str = "", data: str = DATA, run: str = RUN) -> None:
    """Do all of it, on this machine or below other directories."""
    os.makedirs(run, 0o755, exist_ok=True)  # noqa: PTH103 - pathlib is slow to import
    said = take_seed(f"{data}/seed", run)
    taken = record.current(f"{data}/seed")
    if taken is not None:
        said += carry_out(taken, root, run)
    ground.name_host(root)
    said += ground.host_key(f"{data}/ssh")
    if ground.console_is_open(_command_line()):
        with open(f"{run}/console", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write("EDGEWAY_CONSOLE=--noissue --skip-login --login-program /usr/bin/edgeway-shell\n")
    if said:
        ground.tell(said)


def carry_out(taken: Record, root: str, run: str) -> list[str]:
    """Write what the record says, run bootcmd, and lay out runcmd for its unit; return what went wrong."""
    try:
        problems = record.carry_out(taken, root)
    except (OSError, ValueError) as error:  # a damaged record, a full disk: come up nevertheless
        problems = [f"seed: cannot be carried out: {error}"]
    if taken.has("bootcmd"):
        words = ["/bin/sh", f"{taken.directory}/bootcmd"]
        code = os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(words[0], words, os.environ), 0)[1])
        problems += [f"seed: bootcmd ended with {code}"] if code else []
    if taken.has("runcmd") and not taken.has("ran"):
        record.write(f"{run}/runcmd", taken.octets("runcmd"), 0o700)
    return problems


def take_seed(base: str, run: str) -> list[str]:
    """Take the seed of the volume, if it is new; return what is to be said."""
    try:
        if os.access(f"{base}/{WAITING}/meta-data", os.F_OK):
            return _take_waiting(base)
        kind, device = _find()
        if not device:
            return [] if record.current(base) else ["no seed: no volume is labelled cidata"]
        return _take_volume(base, kind, device, f"{run}/seed")
    except OSError as error:
        return [f"seed: {error}"]


def _take_waiting(base: str) -> list[str]:
    """Take the directory that lies ready, and put it aside whatever it holds: the next boot must not see it again."""
    said = take(base, volume.reader(f"{base}/{WAITING}"), f"{base}/{WAITING}")
    aside = f"{base}/{WAITING}.done"
    if os.access(aside, os.F_OK):
        for name in os.listdir(aside):  # noqa: PTH208
            os.unlink(f"{aside}/{name}")  # noqa: PTH108
        os.rmdir(aside)  # noqa: PTH106
    os.replace(f"{base}/{WAITING}", aside)  # noqa: PTH105
    return said


def _find() -> tuple[str, str]:
    """Look for the volume; a CD drive may need its driver first, for udev has not started yet."""
    kind, device = volume.find()
    if not device and volume.drives_without_driver():
        words = ["modprobe", "sr_mod"]
        os.waitpid(os.posix_spawnp(words[0], words, os.environ), 0)
        kind, device = volume.find()
    return kind, device


def _take_volume(base: str, kind: str, device: str, place: str) -> list[str]:
    from appliance.kernel.syscalls import mount, umount  # noqa: PLC0415 - slow to import, and needed only here

    os.makedirs(place, 0o700, exist_ok=True)  # noqa: PTH103
    mount(device, place, MS_READ_ONLY, kind)
    try:
        return take(base, volume.reader(place), device)
    finally:
        umount(place)


def take(base: str, read: Callable[[str], bytes | None], source: str) -> list[str]:
    """Judge a seed and keep it, unless it is the one that was taken last; return what is to be said."""
    taken = record.current(base)
    if taken is not None and read("meta-data") == taken.octets("meta") and taken.octets("meta"):
        return []
    from appliance.box.secrets import hashed  # noqa: PLC0415
    from appliance.box.seed import judge  # noqa: PLC0415 - slow to import: half a second when it is emulated
    from appliance.model.errors import OperatorError  # noqa: PLC0415

    try:
        seed = judge(read)
    except OperatorError as error:
        count = sum(finding.severity == "error" for finding in error.findings)
        return [
            *(f"seed: {finding}" for finding in error.findings),
            f"seed: {source}: {count} errors; nothing was changed",
        ]
    said = [f"seed: {finding}" for finding in seed.warnings]
    if taken is not None and taken.text("instance") == seed.instance:
        return []
    record.store(base, seed, hashed)
    return [*said, f"seed: {source}: taken, instance {seed.instance}"]


def _command_line() -> str:
    with open("/proc/cmdline", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        return file.read()
