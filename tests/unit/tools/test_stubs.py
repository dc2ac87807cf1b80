"""The generated client is importable from inside our package and nowhere else."""

from __future__ import annotations

import pytest

from tools import stubs


def test_imports_of_neighbours_become_relative() -> None:
    """Protoc writes them as if the output lay at top level."""
    assert stubs.relative_imports("import gobgp_pb2 as gobgp__pb2\n") == "from . import gobgp_pb2 as gobgp__pb2\n"


def test_other_imports_are_left_alone() -> None:
    """The well-known types come from protobuf itself."""
    text = "import grpc\nfrom google.protobuf import any_pb2 as x\n  import gobgp_pb2\n"
    assert stubs.relative_imports(text) == text


def test_the_generated_client_names_the_service_and_its_messages() -> None:
    """`make setup` has run; the messages of the three protos know each other."""
    from routing.engines.gobgp_api import attribute_pb2, capability_pb2, gobgp_pb2, gobgp_pb2_grpc  # noqa: PLC0415

    family = gobgp_pb2.Family(afi=gobgp_pb2.Family.AFI_IP, safi=gobgp_pb2.Family.SAFI_UNICAST)
    assert attribute_pb2.MpReachNLRIAttribute(family=family).family == family
    assert capability_pb2.MultiProtocolCapability(family=family).family == family
    assert hasattr(gobgp_pb2_grpc, "GobgpApiStub")


def test_a_second_run_generates_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """The stamp says from what the files were made."""
    assert stubs.main() == 0
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in stubs.TARGET.glob("*_pb2*")}
    assert stubs.main() == 0
    assert capsys.readouterr().out == ""
    assert before
    assert before == {path: path.stat().st_mtime_ns for path in stubs.TARGET.glob("*_pb2*")}
