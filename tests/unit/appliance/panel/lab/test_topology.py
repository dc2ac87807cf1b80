from __future__ import annotations

import textwrap

import pytest

from appliance.model.errors import Finding, OperatorError
from appliance.panel.lab.topology import lab_name, parse
from appliance.panel.lab.values import Node, Topology


def lab(body: str) -> Topology:
    """Parse a lab named `x` whose topology is `body`."""
    return parse("name: x\ntopology:\n" + textwrap.indent(textwrap.dedent(body), "  "), "x.clab.yml")


def findings(body: str) -> tuple[Finding, ...]:
    """Return what is wrong with such a lab."""
    with pytest.raises(OperatorError) as caught:
        lab(body)
    return caught.value.findings


def only(topology: Topology) -> Node:
    """Return the single node."""
    (node,) = topology.nodes
    return node


def test_a_node_inherits_defaults_then_kind_then_group() -> None:
    """The nearer to the node, the stronger; tables are merged, lists are joined."""
    node = only(
        lab("""
        defaults: {kind: linux, cmd: a, image: base, env: {A: d, B: d, C: d, D: d}, exec: [echo d, echo same]}
        kinds: {linux: {cmd: b, entrypoint: k, env: {B: k, C: k, D: k}, exec: [echo k]}}
        groups: {g: {cmd: c, env: {C: g, D: g}, exec: [echo g, echo same]}}
        nodes: {n: {group: g, cmd: d, env: {D: n}, exec: [echo n]}}
        """)
    )
    assert (node.image, node.entrypoint, node.cmd) == ("base", "k", "d")
    assert dict(node.env) == {"A": "d", "B": "k", "C": "g", "D": "n"}
    assert node.exec == ("echo d", "echo same", "echo k", "echo g", "echo n")


def test_a_node_takes_its_kind_from_its_group() -> None:
    """And its group from its kind's section, when it names none itself."""
    topology = lab("""
        defaults: {kind: linux}
        kinds: {linux: {group: servers}}
        groups: {servers: {cmd: serve}, switches: {kind: bridge}}
        nodes: {n: , sw: {group: switches}}
        """)
    assert [(node.name, node.kind, node.cmd) for node in topology.nodes] == [
        ("n", "linux", "serve"),
        ("sw", "bridge", ""),
    ]


def test_a_bind_is_replaced_by_a_nearer_one_with_the_same_target() -> None:
    """As containerlab does it."""
    node = only(
        lab("""
        defaults: {kind: linux, binds: ["a:/etc/x", "b:/etc/y:ro"]}
        nodes: {n: {binds: ["c:/etc/x:ro"]}}
        """)
    )
    assert [(bind.source, bind.target, bind.read_only) for bind in node.binds] == [
        ("c", "/etc/x", True),
        ("b", "/etc/y", True),
    ]


def test_a_node_is_named_by_default_after_itself() -> None:
    """`hostname` says otherwise."""
    topology = lab("nodes: {a: {kind: linux}, b: {kind: linux, hostname: c}}")
    assert [node.hostname for node in topology.nodes] == ["a", "c"]


def test_both_forms_of_links_are_read() -> None:
    """The brief one and the mapping of `type: veth`."""
    topology = lab("""
        nodes: {a: {kind: linux}, b: {kind: linux}}
        links:
          - endpoints: ["a:eth1", "b:eth1"]
          - type: veth
            mtu: 1500
            endpoints:
              - {node: a, interface: eth2, mac: "02-00-00-00-00-01"}
              - {node: b, interface: eth2}
        """)
    assert [(str(link), link.mtu) for link in topology.links] == [
        ("a:eth1 -- b:eth1", 9500),
        ("a:eth2 -- b:eth2", 1500),
    ]
    assert topology.links[1].a.mac == "02:00:00:00:00:01"


def test_an_unsupported_kind_is_refused_where_it_stands() -> None:
    """Line and column are those of the key."""
    (found,) = findings("nodes:\n  a: {kind: linux}\n  b:\n    kind: nokia_srlinux\n")
    assert (found.line, found.column, found.path) == (6, 7, "topology.nodes.b.kind")
    assert "nokia_srlinux" in found.message
    assert "linux, bridge" in found.hint


def test_all_findings_come_at_once_and_in_order() -> None:
    """One run shows everything there is to mend."""
    found = findings("""
        nodes:
          a: {kind: linux, pid-mode: host, bogus: 1}
          b: {kind: ceos}
          c: {kind: linux, sysctls: {vm.swappiness: 1}, binds: [nowhere]}
        links:
          - endpoints: ["a:eth1", "z:eth1"]
          - endpoints: ["a:eth1"]
        """)
    said = " ".join(finding.message for finding in found)
    for part in ("pid-mode", "bogus", "ceos", "vm.swappiness", "'nowhere' is no bind", "no node 'z'", "two end"):
        assert part in said
    assert [finding.line for finding in found] == sorted(finding.line for finding in found)
    assert all(finding.line > 2 and finding.column > 0 for finding in found)


@pytest.mark.parametrize("key", ["mgmt-ipv4: 10.0.0.1", "license: x", "ports: ['80:80']", "memory: 1gb"])
def test_what_makes_no_difference_is_said(key: str) -> None:
    """It is a warning with its place; the lab is good."""
    topology = lab(f"nodes:\n  a:\n    kind: linux\n    {key}\n")
    (warning,) = topology.warnings
    assert (warning.severity, warning.line, warning.column) == ("warning", 6, 7)
    assert key.partition(":")[0] in warning.message


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("nodes: {}", "needs nodes"),
        ("nodes: {a: {}}", "has no kind"),
        ("nodes: {a/b: {kind: linux}}", "cannot name a node"),
        ("nodes: {a: {kind: linux, group: nowhere}}", "no group 'nowhere'"),
        ("nodes: {a: {kind: linux, network-mode: host}}", "network-mode 'host'"),
        ('nodes: {a: {kind: linux, exec: ["echo \'x"]}}', "No closing quotation"),
        ("nodes: {a: {kind: linux, exec: ['']}}", "command is empty"),
        ("nodes: {a: {kind: linux, binds: ['a:/b:rx']}}", "bind mode 'rx'"),
        ("nodes: {a: {kind: linux, binds: ['a:/b/../../c']}}", "is no bind"),
        ("nodes: {a: {kind: linux, sysctls: {net.ipv4/../../vm/swappiness: 1}}}", "belongs to the machine"),
        ("nodes: {a: {kind: bridge, image: x}}", "no meaning for a bridge"),
        ("nodes: {a-very-long-bridge: {kind: bridge}}", "too long for a bridge"),
        ("nodes: {a: {kind: linux, cmd: '${X%%1}'}}", "not expanded"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(body: str, says: str) -> None:
    """Nothing of a file is passed over in silence."""
    assert says in " ".join(finding.message for finding in findings(body))


@pytest.mark.parametrize("sysctl", ["net.ipv4.ip_forward", "net/ipv4/conf/eth0.100/rp_filter", "kernel.shmmax"])
def test_sysctls_of_a_node_are_accepted(sysctl: str) -> None:
    """Those of its network namespace, and of its System V memory."""
    assert only(lab(f"nodes: {{a: {{kind: linux, sysctls: {{{sysctl}: 1}}}}}}")).sysctls == ((sysctl, "1"),)


@pytest.mark.parametrize("text", ["", "name: ''\n", "name: ../x\n", "name: .x\n", "name: a/b\n", "[]\n"])
def test_a_lab_needs_a_name_that_can_name_a_directory(text: str) -> None:
    """It is used as one, by root."""
    with pytest.raises(OperatorError, match="the lab needs a name"):
        parse(text)


def test_the_name_is_found_in_a_file_with_other_faults() -> None:
    """A lab must come down even when its file was edited meanwhile."""
    assert lab_name("name: x\ntopology: {nodes: {a: {kind: nonsense}}}\n") == "x"


def test_a_yaml_error_has_a_place() -> None:
    """As everything else has."""
    with pytest.raises(OperatorError) as caught:
        parse("name: x\ntopology: {nodes: [\n", "x.yml")
    assert caught.value.findings[0].line >= 2


def test_the_management_interface_is_left_to_containerlab() -> None:
    """Only a node without it may call a link eth0: the file stays valid there."""
    links = 'links: [{endpoints: ["a:eth0", "a:eth1"]}]'
    assert "management" in findings(f"nodes: {{a: {{kind: linux}}}}\n{links}\n")[0].message
    assert lab(f"nodes: {{a: {{kind: linux, network-mode: none}}}}\n{links}\n").links


def test_variables_are_those_of_the_environment() -> None:
    """Also in the name of the lab, by which it is taken down."""
    text = "name: ${LAB:=x}\ntopology: {nodes: {a: {kind: linux, image: '${IMAGE:=bird}'}}}\n"
    assert only(parse(text, "x.clab.yml")).image == "bird"
    assert only(parse(text, "x.clab.yml", {"IMAGE": "frr"})).image == "frr"
    assert lab_name(text, "x.clab.yml", {"LAB": "y"}) == "y"
