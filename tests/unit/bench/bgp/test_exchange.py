from __future__ import annotations

from pathlib import Path

import pytest

from bench.bgp import bird, exchange, frr, gobgp, openbgpd
from routing.bgp.codec import speaker_from_json, speaker_to_json
from routing.bgp.values import Family


@pytest.mark.parametrize("family", Family)
def test_our_engine_is_told_every_client(family: Family) -> None:
    """And reads what was written."""
    at = exchange.exchange(300, family)
    told = exchange.speaker(at)
    assert {neighbor.address for neighbor in told.neighbors} == {client.address for client in at.clients}
    assert len({client.router_id for client in at.clients}) == 300
    assert speaker_from_json(speaker_to_json(told)) == told


@pytest.mark.parametrize("family", Family)
def test_every_server_is_told_every_client_and_the_whole_policy(family: Family, tmp_path: Path) -> None:
    """In its own words."""
    at = exchange.exchange(30, family)
    texts = [
        bird.configuration(at),
        frr.configuration(at),
        gobgp.configuration(at),
        openbgpd.configuration(at, tmp_path / "control"),
    ]
    for text in texts:
        assert all(str(client.address) in text and str(client.asn) in text for client in at.clients)
        assert all(str(rule.network) in text for rule in (*at.never, *at.owned))
        assert "23456" in text
