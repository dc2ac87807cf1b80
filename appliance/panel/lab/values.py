"""What a topology file says, as values: the whole of what the lab runner acts on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from appliance.model.errors import Finding

Kind = Literal["linux", "bridge", "generic_vm"]
Pairs = tuple[tuple[str, str], ...]

#: What containerlab gives a link that says nothing else.
DEFAULT_MTU = 9500


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the file something stands; kept for findings that need more than the file to be made."""

    path: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or directory of the machine, shown in the node. `source` is as written."""

    source: str
    target: str
    read_only: bool
    place: Place


@dataclass(frozen=True, slots=True)
class EnvFile:
    """A file of NAME=VALUE lines. `source` is as written."""

    source: str
    place: Place


@dataclass(frozen=True, slots=True)
class Node:
    """One node, with what it inherits from the defaults, its kind and its group."""

    name: str
    kind: Kind
    place: Place
    image: str = ""
    entrypoint: str = ""
    cmd: str = ""
    hostname: str = ""
    binds: tuple[Bind, ...] = ()
    exec: tuple[str, ...] = ()
    env: Pairs = ()
    env_files: tuple[EnvFile, ...] = ()
    sysctls: Pairs = ()
    labels: Pairs = ()
    tmpfs: Pairs = ()
    #: What is run once the links are there, before `exec`; and the words of the command that tells whether it is well.
    stages: tuple[str, ...] = ()
    health: tuple[str, ...] = ()
    startup_config: Bind | None = None
    startup_delay: int = 0
    memory: str = ""
    #: containerlab would give it a management interface, eth0.
    management: bool = True


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a link."""

    node: str
    interface: str
    mac: str = ""

    def __str__(self) -> str:
        """Render as the brief form writes it."""
        return f"{self.node}:{self.interface}"


@dataclass(frozen=True, slots=True)
class Link:
    """A veth pair between two nodes, or with both ends in one: a link to nowhere."""

    a: Endpoint
    b: Endpoint
    place: Place
    mtu: int = DEFAULT_MTU

    def __str__(self) -> str:
        """Render for progress lines and errors."""
        return f"{self.a} -- {self.b}"


@dataclass(frozen=True, slots=True)
class Topology:
    """A lab. `warnings` are the findings that do not stop it."""

    name: str
    nodes: tuple[Node, ...]
    links: tuple[Link, ...] = ()
    warnings: tuple[Finding, ...] = ()
    file: str = ""

    def bridges(self) -> tuple[Node, ...]:
        """Return the nodes that are bridges."""
        return tuple(node for node in self.nodes if node.kind == "bridge")
