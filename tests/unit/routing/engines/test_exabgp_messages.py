from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from routing.engines.exabgp_messages import Down


@pytest.mark.parametrize(
    ("reason", "graceful"),
    [
        ("closing connection", True),
        ("graceful restarted negotiated, closing without sending any notification", True),
        ("notification received (6,2)", False),
        ("notification sent (4,0)", False),
    ],
)
def test_a_session_ends_gracefully_unless_somebody_said_notification(reason: str, graceful: bool) -> None:
    """RFC 4724 4.2, in the words of ExaBGP 5."""
    assert Down(IPv4Address(1), reason).graceful is graceful
