"""The smallest body of a table that judges flows by design 0004: for tests of the port, with a policy of one line.

It declares what the port fills (dispatch, instructions, the chains of engines), reads everything from the tuples of the
flow, and counts what the tests ask about: `judged` (all trips of the slow path) and `rechecked` (those of flows that had
been judged before).
"""

from __future__ import annotations

from collections.abc import Mapping

_TUPLE = (
    "ct zone . ct original {ip} saddr . ct original proto-src . ct original {ip} daddr . ct original proto-dst "
    ". ct original protocol"
)
#: The match satisfies nft's parser: the protocol that is looked up is that of the flow.
_LOOK_UPS = "\n".join(
    f"meta l4proto {protocol} meta mark set {_TUPLE.format(ip=ip)} map @instructions{version}"
    for version, ip, last in ((4, "ip", "icmp"), (6, "ip6", "ipv6-icmp"))
    for protocol in ("tcp", "udp", last)
)
_KEY = "typeof ct zone . {ip} saddr . tcp sport . {ip} daddr . tcp dport . meta l4proto : meta mark;"


def flow_body(policy: Mapping[int, str], padding: int = 0, slow: int = 0, zone: int = 0) -> str:
    """Return a body: `policy` says, for each engine, the destination ports of its flows (2048 for an ICMP echo request).

    All are allowed but those in the set `denied`. Between the look-up of instructions and the stamp stand `padding` rules,
    and `slow` look-ups in the set `slow`, which take as long as it has elements that begin with the destination.
    """
    chains = "\n".join(f"chain engine{engine} {{ }}" for engine in policy)
    jumps = "\n".join(
        f"meta l4proto {protocol} ct original proto-dst {ports} goto engine{engine}"
        for engine, ports in policy.items()
        for protocol in ("tcp", "udp", "icmp", "ipv6-icmp")
    )
    pads = "\n".join("ct original protocol 253 counter" for _ in range(padding))
    pads += "\n" + "\n".join("meta l4proto udp ip daddr . udp dport @slow counter" for _ in range(slow))
    return f"""
    counter judged {{ }}
    counter rechecked {{ }}
    map dispatch {{ type mark : verdict; size 2048; }}
    map instructions4 {{ {_KEY.format(ip="ip")} }}
    map instructions6 {{ {_KEY.format(ip="ip6")} }}
    set denied {{ type inet_service; }}
    set slow {{ type ipv4_addr . inet_service; flags interval; }}
    chain do_reject {{ meta l4proto tcp reject with tcp reset; reject; }}
    chain do_redirect {{ meta mark set 0 accept; }}
    chain do_sample {{ meta mark set 0 accept; }}
    chain do_limit {{ meta mark set 0 accept; }}
    chain allow {{ meta mark set 0 accept; }}
    chain act {{ meta mark and 0xf00 vmap {{ 0x100 : goto allow, 0x200 : drop, 0x300 : goto do_reject,
        0x400 : goto do_redirect, 0x500 : goto do_sample, 0x600 : goto do_limit }}; }}
    {chains}
    chain engines {{
        {pads}
        {jumps}
    }}
    chain judge {{
        counter name judged
        ct mark and 0xfff00000 != 0 counter name rechecked
        meta mark set 0
        {_LOOK_UPS}
        meta mark and 0x80000000 != 0 goto engines
        meta mark set 0x100
        meta l4proto {{ tcp, udp }} ct original proto-dst @denied meta mark set 0x200
        goto engines
    }}
    chain zones {{ type filter hook prerouting priority raw; ct zone set {zone}; }}
    chain prerouting {{
        type filter hook prerouting priority dstnat + 10; policy drop;
        ct mark and 0xffffff00 vmap @dispatch
        ct state invalid drop
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert }} accept
        goto judge
    }}
    """
