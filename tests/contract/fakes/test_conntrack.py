"""The fake of flow records, where a contract test cannot look."""

from __future__ import annotations

from ipaddress import ip_address

from appliance.kernel.conntrack_codec import CtEntry, CtTuple
from appliance.kernel.fakes.conntrack import FakeConntrack
from appliance.model.facts import HOST, Namespace


def test_playing_a_flow_again_renews_its_record() -> None:
    """One flow has one record in its namespace."""
    tuple_ = CtTuple(ip_address("192.0.2.1"), ip_address("192.0.2.2"), 1, 2)
    tracker = FakeConntrack()
    tracker.add(HOST, CtEntry(17, tuple_, tuple_, mark=1))
    tracker.add(HOST, CtEntry(17, tuple_, tuple_, mark=2))
    assert [entry.mark for entry in tracker.dump(HOST)] == [2]
    assert tracker.count(Namespace("red")) == 0
