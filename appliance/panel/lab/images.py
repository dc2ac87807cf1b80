"""How a node starts here, by its image reference. Pure.

There are no images here: a node sees the machine's own file tree. This table says which program of the machine stands
for an image. Paths are those of Debian's packages.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from appliance.panel.lab.values import Node


@dataclass(frozen=True, slots=True)
class Start:
    """What pid 1 of a node is told: shell commands run once, NAME=SHELL kept running beside, the main command."""

    main: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Image:
    """What stands for an image. `{hostname}` in the main command is the node's."""

    pattern: str
    main: tuple[str, ...]
    setup: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


def _shell(*lines: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", "\n".join(lines))


#: FRR's daemons read their part of the common file and pass over the rest. They drop to user frr before they read it,
#: and the file is the operator's, so each start reads a copy.
_FRR_CONFIG: Final = (
    "c=/etc/frr/frr.conf; [ -s /etc/frr/bgpd.conf ] && c=/etc/frr/bgpd.conf",
    "install -o frr -g frr -m 0640 $c /run/frr/bgpd.conf",
)
#: staticd forgets its routes when it is there before zebra.
_ZEBRA_READY: Final = "until [ -S /run/frr/zserv.api ]; do sleep 0.05; done"
_FRR_SETUP: Final = (
    "install -d -o frr -g frr -m 0755 /run/frr",
    "install -o frr -g frr -m 0640 /etc/frr/frr.conf /run/frr/frr.conf",
    "[ -e /etc/frr/vtysh.conf ] || echo 'service integrated-vtysh-config' >/etc/frr/vtysh.conf",
)
#: What /etc/frr/daemons switches on beyond zebra, staticd and bgpd.
_FRR_OTHERS: Final = (
    r"for d in $(sed -n 's/^\([a-z0-9]*d\)=yes.*/\1/p' /etc/frr/daemons); do"
    " case $d in bgpd|staticd) ;;"
    " *) [ -x /usr/lib/frr/$d ] && /usr/lib/frr/$d -d -A 127.0.0.1 -f /run/frr/frr.conf ;; esac; done; :"
)

#: OpenBGPD insists on a configuration that only root can read.
_OPENBGPD_CONFIG: Final = (
    "c=/etc/bgpd.conf; [ -e /etc/bgpd/bgpd.conf ] && c=/etc/bgpd/bgpd.conf",
    "install -o root -g root -m 0600 $c /run/openbgpd/bgpd.conf",
)
_GOBGP_CONFIG: Final = (
    "for c in /config/gobgp.toml /etc/gobgp/gobgp.toml /etc/gobgp/gobgp.conf; do [ -e $c ] && break; done"
)
#: ExaBGP would become user nobody, who may not read what is the operator's.
_EXABGP: Final = "exabgp_daemon_user=root exabgp_api_cli=false exec exabgp server /etc/exabgp/exabgp.conf"
_BIRD_CONFIG: Final = "c=/etc/bird/bird.conf; [ -e /etc/bird.conf ] && c=/etc/bird.conf"

IMAGES: Final = (
    Image(
        r"(.*/)?edgeway([:@].*)?",
        ("edgeway", "run", "/etc/edgeway/intent.yaml", "--node", "{hostname}"),
    ),
    Image(
        r"(.*/)?frrouting/frr([:@].*)?|(.*/)?frr([:@].*)?",
        _shell(*_FRR_CONFIG, _ZEBRA_READY, "exec /usr/lib/frr/bgpd -A 127.0.0.1 -f /run/frr/bgpd.conf"),
        (*_FRR_SETUP, _FRR_OTHERS),
        (
            "zebra=rm -f /run/frr/zserv.api; exec /usr/lib/frr/zebra -A 127.0.0.1 -s 90000000 -f /run/frr/frr.conf",
            f"staticd={_ZEBRA_READY}; exec /usr/lib/frr/staticd -A 127.0.0.1 -f /run/frr/frr.conf",
        ),
    ),
    Image(
        r"(.*/)?openbgpd([:@].*)?",
        _shell(*_OPENBGPD_CONFIG, "exec /usr/sbin/bgpd -d -f /run/openbgpd/bgpd.conf"),
        ("install -d -o root -g root -m 0755 /run/openbgpd",),
    ),
    Image(
        r"(.*/)?[^/:@]*bird[^/:@]*([:@].*)?",
        _shell(_BIRD_CONFIG, "exec /usr/sbin/bird -f -c $c"),
        ("install -d -m 0755 /run/bird",),
    ),
    Image(r"(.*/)?[^/:@]*gobgp[^/:@]*([:@].*)?", _shell(_GOBGP_CONFIG, "exec /usr/bin/gobgpd -f $c")),
    Image(r"(.*/)?[^/:@]*exabgp[^/:@]*([:@].*)?", _shell(_EXABGP)),
)
#: The program that runs a virtual machine in its node: `appliance.panel.lab.machine`.
VM: Final = ("edgeway-lab-machine",)
ANY: Final = Image(r".*", ("sleep", "infinity"))


def image_of(reference: str) -> Image:
    """Return what stands for an image reference; any that is not known is a machine that does nothing."""
    return next((image for image in IMAGES if re.fullmatch(image.pattern, reference)), ANY)


def is_ours(reference: str) -> bool:
    """Tell whether an image is this program."""
    return image_of(reference) is IMAGES[0]


def start_of(node: Node) -> Start:
    """Return how a node starts, and when: `startup-delay` is the main command's."""
    start = _start_of(node)
    if not node.startup_delay or not start.main:
        return start
    delay = ("sh", "-c", f'sleep {node.startup_delay}; exec "$@"', "sh")
    return Start((*delay, *start.main), start.setup, start.beside)


def _start_of(node: Node) -> Start:
    """Return how a node starts: as its kind or image says, unless it has a command of its own."""
    if node.kind == "bridge":
        return Start()
    if node.kind == "generic_vm":
        return Start(VM)
    image = image_of(node.image)
    own = (*shlex.split(node.entrypoint), *shlex.split(node.cmd))
    if own:
        return Start(own, image.setup if node.image else ())
    main = tuple(word.replace("{hostname}", node.hostname) for word in image.main)
    return Start(main, image.setup, image.beside)
