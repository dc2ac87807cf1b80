"""How many packets the namespace we are in has forwarded, as the kernel counts them: /proc/net/snmp and snmp6 (RFC 4293).

Called by `appliance.control.drain`. Only differences mean something; the counters of a namespace begin with it.
"""

from __future__ import annotations

from pathlib import Path

#: `thread-self`: a namespace belongs to a thread.
_NET = Path("/proc/thread-self/net")


def forwarded() -> int:
    """Return the packets of both families since the namespace was made."""
    return _ipv4((_NET / "snmp").read_text(encoding="ascii")) + _ipv6((_NET / "snmp6").read_text(encoding="ascii"))


def _ipv4(text: str) -> int:
    """Find a column by its name: a line of names, a line of values, both begin with `Ip:`."""
    names, values = (line.split() for line in text.splitlines() if line.startswith("Ip:"))
    return int(values[names.index("ForwDatagrams")])


def _ipv6(text: str) -> int:
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Ip6OutForwDatagrams"))
