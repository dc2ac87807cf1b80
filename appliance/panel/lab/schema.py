"""Which keys of a containerlab topology file mean something here: done, said to make no difference, or refused.

Pure data, read by `appliance.panel.lab.topology`. A key in none of these tables is not containerlab's either.
"""

from __future__ import annotations

from typing import Final

#: Honoured. The value says which shape it must have.
NODE_KEYS: Final = {
    "kind": "text",
    "group": "text",
    "image": "text",
    "cmd": "text",
    "entrypoint": "text",
    "hostname": "text",
    "network-mode": "text",
    "startup-config": "text",
    "startup-delay": "text",
    "memory": "text",
    "binds": "texts",
    "exec": "texts",
    "env-files": "texts",
    "env": "table",
    "sysctls": "table",
    "labels": "table",
    "tmpfs": "table",
    "healthcheck": "health",
    "stages": "stages",
}

#: Harmless to leave out: a warning says so. The value says why.
WARNED_NODE_KEYS: Final = {
    "aliases": "there is no management network here",
    "auto-remove": "a node that ends is started again here",
    "cap-add": "nodes hold what they need here",
    "cgroup-parent": "nodes have no control groups of their own here",
    "cgroupns-mode": "nodes have no control groups of their own here",
    "components": "none of the kinds here has line cards",
    "config": "no templates are rendered here",
    "cpu": "no limit is set here",
    "cpu-set": "no limit is set here",
    "credentials": "none of the kinds here has them",
    "dns": "nodes use the machine's resolver here",
    "enforce-startup-config": "it always is here",
    "extras": "none of the kinds here has any",
    "image-pull-policy": "no image is pulled here",
    "license": "none of the kinds here needs one",
    "link-apply-mode": "links are made anew with the nodes here",
    "mgmt-ipv4": "there is no management network here",
    "mgmt-ipv6": "there is no management network here",
    "ports": "nothing is published on the machine here: use `exec`",
    "privileged": "nodes hold what they need here",
    "restart-policy": "the main command is always started again here",
    "runtime": "`edgeway lab up --runtime` chooses here",
    "security-opts": "nodes are not confined here",
    "shm-size": "no limit is set here",
    "suppress-startup-config": "none is made up here",
    "type": "none of the kinds here has several",
}

#: Containerlab's, and left out here would mean another lab than the one described.
REFUSED_NODE_KEYS: Final = frozenset({"certificate", "devices", "pid-mode", "user", "volumes"})

KINDS: Final = ("linux", "bridge", "ovs-bridge", "generic_vm")
TOP_KEYS: Final = frozenset({"name", "topology"})
WARNED_TOP_KEYS: Final = {
    "prefix": "nodes have no container names here",
    "mgmt": "there is no management network here",
    "settings": "nothing of it is used here",
    "debug": "nothing of it is used here",
}
TOPOLOGY_KEYS: Final = frozenset({"defaults", "kinds", "groups", "nodes", "links"})
LINK_KEYS: Final = frozenset({"type", "endpoints", "mtu"})
#: Types of links that join two nodes, the one that ends in nothing, and those that lead out of the lab.
PAIR_TYPES: Final = ("veth", "veth-stitch")
DUMMY_TYPE: Final = "dummy"
DUMMY_KEYS: Final = frozenset({"type", "endpoint", "mtu"})
OUTWARD_TYPES: Final = ("mgmt-net", "macvlan", "host", "vxlan", "vxlan-stitch")
WARNED_LINK_KEYS: Final = {
    "vars": "no templates are rendered here",
    "labels": "nothing reads them here",
    "ipv4": "containerlab gives it to templates only; use `exec: ip addr add`",
    "ipv6": "containerlab gives it to templates only; use `exec: ip addr add`",
}
ENDPOINT_KEYS: Final = frozenset({"node", "interface", "mac"})

#: What else than `net.` belongs to a node's own namespaces.
IPC_SYSCTLS: Final = frozenset(
    f"kernel.{name}"
    for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)  # fmt: skip
#: Names of nodes that stand for the machine in a link.
MACHINE_ENDPOINTS: Final = frozenset({"host", "mgmt-net", "macvlan", "dummy"})
