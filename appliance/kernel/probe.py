"""What this kernel offers, found out by trying each thing in a namespace that exists only for the try.

A table of attempts: a shell line, what Edgeway uses it for, and what it uses where it is missing. Run on demand by
`edgeway show capabilities`; nothing of it stays.
"""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Final

#: Seconds that one attempt may take: it may load modules, on a machine that is emulated and busy. Late is not missing.
PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """Something to try: `line` succeeds where the kernel has it."""

    name: str
    line: str
    used_for: str
    otherwise: str = "required"


ATTEMPTS: Final = (
    Attempt("network namespaces", "true", "an edge per VPC"),
    Attempt("veth, bridge with isolated ports", "ip link add p0 type veth peer name p1 && ip link add lan0 type bridge && ip link set p0 master lan0 && ip link set p0 type bridge_slave isolated on", "guests of a VPC"),
    Attempt("VXLAN", "ip link add tun0 type vxlan id 1 dstport 4789", "traffic between hosts"),
    Attempt("next-hop objects", "ip link set lo up && ip nexthop add id 1 dev lo", "routes; one message moves them all"),
    Attempt("IPv4 routes via IPv6", "ip link add p0 type veth peer name p1 && ip link set p0 up && ip route add 192.0.2.0/24 via inet6 fe80::1 dev p0", "RFC 8950"),
    Attempt("seg6local End.DX4", "ip link set lo up && ip -6 route add fd00::/64 encap seg6local action End.DX4 nh4 127.0.0.2 dev lo", "taking packets out of composed destinations"),
    Attempt("tc clsact", "tc qdisc add dev lo clsact", "composing destinations (BPF)"),
    Attempt("nft NAT", "nft 'table inet t { chain c { type nat hook postrouting priority 100; masquerade; }; }'", "source NAT, VIPs"),
    Attempt("conntrack zones", "nft 'table inet t { chain c { type filter hook prerouting priority -300; ct zone set 7; }; }'", "tenants"),
    Attempt("conntrack on bridges", "nft 'table bridge t { chain c { type filter hook forward priority 0; ct state new accept; }; }'", "engines per bridge", "br_netfilter"),
    Attempt("nft flowtable", "ip link set lo up && nft 'table inet t { flowtable f { hook ingress priority 0; devices = { lo }; }; }'", "short cut of established flows", "flow cache in tc-BPF"),
    Attempt("nft queue", "nft 'table inet t { chain c { type filter hook forward priority 0; queue num 1; }; }'", "packets to user space", "ring buffer"),
    Attempt("VRF", "ip link add vrf0 type vrf table 10", "routing tables per tenant", "namespaces"),
    Attempt("VLAN devices", "ip link add p0 type veth peer name p1 && ip link add link p0 name p0v type vlan id 5", "tagged ports", "BPF"),
    Attempt("GENEVE", "ip link add gen0 type geneve id 1 remote 192.0.2.1", "service chains", "VXLAN-GBP"),
    Attempt("ESP", "ip xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 1 mode tunnel aead 'rfc4106(gcm(aes))' 0x0102030405060708090a0b0c0d0e0f1011121314 128", "VPN", "ESP in user space"),
)  # fmt: skip


def _try(attempt: Attempt) -> dict[str, object]:
    try:
        done = subprocess.run(
            ["unshare", "--net", "sh", "-c", attempt.line],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
        )
        present, said = done.returncode == 0, done.stderr.strip().splitlines()
    except (OSError, subprocess.TimeoutExpired) as error:
        present, said = False, [str(error)]
    row = {key: value for key, value in asdict(attempt).items() if key != "line"}
    uses = "the kernel's" if present else attempt.otherwise
    return {**row, "present": present, "uses": uses, "detail": "" if present else (said or [""])[0]}


def capabilities() -> list[dict[str, object]]:
    """Try everything; return rows with name, used_for, otherwise, present, uses, detail."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(_try, ATTEMPTS))
