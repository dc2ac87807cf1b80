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
    "binds": "texts",
    "exec": "texts",
    "env-files": "texts",
    "env": "table",
    "sysctls": "table",
    "labels": "table",
}

#: Harmless to leave out: a warning says so. The value says why.
WARNED_NODE_KEYS: Final = {
    "aliases": "there is no management network here",
    "auto-remove": "a node that ends is started again here",
    "cap-add": "nodes hold every capability here",
    "config": "no templates are rendered here",
    "cpu": "no limit is set here",
    "cpu-set": "no limit is set here",
    "dns": "nodes use the machine's resolver here",
    "healthcheck": "no health check is run here",
    "image-pull-policy": "no image is pulled here",
    "memory": "no limit is set here",
    "mgmt-ipv4": "there is no management network here",
    "mgmt-ipv6": "there is no management network here",
    "ports": "nothing is published on the machine here: use `exec`",
    "privileged": "nodes hold every capability here",
    "restart-policy": "the main command is always started again here",
    "runtime": "there is no container engine here",
    "security-opts": "nodes are not confined here",
    "shm-size": "no limit is set here",
    "startup-delay": "all nodes start at once here",
}

#: Containerlab's, and left out here would mean another lab than the one described.
REFUSED_NODE_KEYS: Final = frozenset({
    "certificate", "cgroup-parent", "cgroupns-mode", "components", "credentials", "devices", "enforce-startup-config",
    "extras", "license", "link-apply-mode", "pid-mode", "stages", "startup-config", "suppress-startup-config", "tmpfs",
    "type", "user", "volumes",
})  # fmt: skip

KINDS: Final = ("linux", "bridge")
#: The kind names containerlab also accepts for ours.
TOP_KEYS: Final = frozenset({"name", "topology"})
WARNED_TOP_KEYS: Final = {
    "prefix": "nodes have no container names here",
    "mgmt": "there is no management network here",
    "settings": "nothing of it is used here",
    "debug": "nothing of it is used here",
}
TOPOLOGY_KEYS: Final = frozenset({"defaults", "kinds", "groups", "nodes", "links"})
LINK_KEYS: Final = frozenset({"type", "endpoints", "mtu"})
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
