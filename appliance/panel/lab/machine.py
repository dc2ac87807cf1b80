"""A node that is a virtual machine: the main command of kind `generic_vm`, started in the node as `edgeway-lab-machine`.

    eth1 ── br1 ── tap1 ── QEMU: eth1        one bridge for each link; eth0 of the machine is a network of QEMU's own
    seed (NoCloud) ──────> QEMU: /dev/vdb    name, intent, a key for the lab
    console  <──────────── QEMU: ttyS0       goes to the node's log; `edgeway: READY` makes the node healthy
    /run/edgeway/api.sock ─ ssh ─> daemon    so that a lab asks machines as it asks other nodes

`edgeway lab exec` goes by SSH, with a key that is made for the node and known to nobody else. What is decided here
(command line, seed, names) is in `appliance.panel.lab.machine_parts`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from appliance.panel.client import SOCKET
from appliance.panel.lab import machine_parts as parts
from appliance.panel.lab.machine_parts import PLACE

#: How the machine is, in the place and the words of vrnetlab.
HEALTH: Final = Path("/health")
INTENT: Final = Path("/config/startup-config.cfg")
LINKS_WITHIN, POWER_OFF_WITHIN, PAUSE, AGAIN = 60.0, 20.0, 0.1, 2.0


def wait_for_links(count: int, within: float = LINKS_WITHIN) -> list[str]:
    """Wait until all links are there, as containerlab promises them; return their names in their order."""
    deadline = time.monotonic() + within
    while len(found := parts.data_interfaces(os.listdir("/sys/class/net"))) < count:  # noqa: PTH208 - names only
        if time.monotonic() > deadline:
            say(f"{len(found)} of {count} links are there; going on without the others")
            break
        time.sleep(PAUSE)
    return found


def bridge_links(interfaces: list[str]) -> None:
    """Give every link a tap device behind a bridge that only passes frames on."""
    Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1", encoding="ascii")
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1", encoding="ascii")
    for name in interfaces:
        if Path(f"/sys/class/net/tap{name.removeprefix('eth')}").exists():
            continue  # made by one of us who ended
        mtu = Path(f"/sys/class/net/{name}/mtu").read_text(encoding="ascii").strip()
        subprocess.run(["ip", "-batch", "-"], input="\n".join(parts.bridging(name, mtu)), text=True, check=True)


def make_seed(node: str, key: str) -> Path:
    """Write the volume that the machine reads at its first boot."""
    seed = PLACE / "seed.img"
    files = parts.seed(
        node, f"{node}-{time.time_ns()}", key, INTENT.read_text(encoding="utf-8") if INTENT.exists() else ""
    )
    seed.unlink(missing_ok=True)
    make = ["mkfs.vfat", "-C", "-n", "CIDATA", str(seed), str(parts.SEED_KILOBYTES)]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
    for name, text in files.items():
        subprocess.run(["mcopy", "-i", seed, "-", f"::{name}"], input=text, text=True, check=True)
    return seed


def make_key() -> str:
    """Make the lab's key for this machine; return the half that the machine is told."""
    key = PLACE / "key"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", key], check=True)
    (PLACE / "ssh_config").write_text(parts.ssh_config(PLACE), encoding="ascii")
    return key.with_suffix(".pub").read_text(encoding="ascii").strip()


def relay_console(machine: subprocess.Popen[bytes], ready: threading.Event) -> None:
    """Pass on what the console says, line by line, and notice when the machine is ready."""
    assert machine.stdout is not None  # noqa: S101 - for mypy: it was asked for
    for octets in machine.stdout:
        line = parts.plain(octets)
        say(line)
        if parts.READY.search(line):
            ready.set()
            HEALTH.write_text("0 running\n", encoding="ascii")


def serve_api(ready: threading.Event) -> None:
    """Offer the machine's daemon where daemons of other nodes are found, from when the machine is ready."""
    ready.wait()
    SOCKET.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        with subprocess.Popen(parts.door(SOCKET), stdin=subprocess.PIPE) as session:
            session.wait()
        time.sleep(AGAIN)  # the machine starts anew, perhaps


def power_off() -> None:
    """Press the machine's power button."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as control:
        control.connect(str(PLACE / "qmp"))
        for command in ("qmp_capabilities", "system_powerdown"):
            control.sendall(json.dumps({"execute": command}).encode())


def say(line: str) -> None:
    """Write a line into the node's log."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Run the machine until it ends, or until somebody ends us."""
    PLACE.mkdir(mode=0o700, exist_ok=True)
    HEALTH.write_text("1 starting\n", encoding="ascii")
    node = socket.gethostname()
    interfaces = wait_for_links(int(os.environ.get("CLAB_INTFS", "0")))
    bridge_links(interfaces)
    seed = make_seed(node, make_key())
    command = parts.qemu(os.environ, node, interfaces, seed, PLACE)
    machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    stopping, ready = threading.Event(), threading.Event()

    def stop(*_: object) -> None:
        stopping.set()
        power_off()
        threading.Timer(POWER_OFF_WITHIN, machine.kill).start()

    signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=serve_api, args=(ready,), daemon=True).start()
    relay_console(machine, ready)
    code = machine.wait()
    HEALTH.write_text("1 ended\n", encoding="ascii")
    return 0 if stopping.is_set() else code or 1


if __name__ == "__main__":
    sys.exit(main())
