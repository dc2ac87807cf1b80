"""Errors say who must act and whether trying again helps."""

from __future__ import annotations

import errno

import pytest

from appliance.model.errors import (
    EdgewayError,
    EngineError,
    Finding,
    InternalError,
    KernelError,
    OperatorError,
    PeerError,
)


def test_a_finding_reads_as_compilers_write() -> None:
    """Editors jump to file:line:column."""
    finding = Finding(3, 7, "nodes.h1.id", "required, but absent", "see the reference", file="intent.yaml")
    assert str(finding) == "intent.yaml:3:7: error: nodes.h1.id: required, but absent (see the reference)"


def test_a_finding_without_file_and_hint_reads_well_too() -> None:
    """Text that came through the API has no file."""
    assert str(Finding(1, 1, "zone", "odd", severity="warning")) == "-:1:1: warning: zone: odd"


def test_findings_come_in_the_order_of_the_file() -> None:
    """However they were found."""
    late, early, same = Finding(9, 1, "b", "x"), Finding(2, 5, "a", "y"), Finding(2, 1, "z", "w")
    error = OperatorError((late, early, same))
    assert error.findings == (same, early, late)
    assert str(error).splitlines() == [str(same), str(early), str(late)]


def test_a_wrong_command_is_a_finding_without_a_place() -> None:
    """Line 0 is the command line, not the file."""
    (finding,) = OperatorError.of("no such node", "nodes: h1", "node").findings
    assert (finding.line, finding.column, finding.path, finding.hint) == (0, 0, "node", "nodes: h1")


@pytest.mark.parametrize(
    ("error", "who", "retry"),
    [
        (OperatorError(()), "operator", False),
        (PeerError("hold timer"), "peer", True),
        (EngineError("died"), "us", True),
        (InternalError("impossible"), "us", False),
        (KernelError("routes", "10.0.0.0/8", errno.EBUSY), "kernel", True),
        (KernelError("routes", "10.0.0.0/8", errno.EINVAL), "kernel", False),
    ],
)
def test_the_class_says_who_must_act_and_whether_retrying_helps(error: EdgewayError, who: str, retry: bool) -> None:
    """The loop retries by this, the command line words its answer by this."""
    assert isinstance(error, EdgewayError)
    assert (error.who, error.retry) == (who, retry)


@pytest.mark.parametrize("number", [errno.EINTR, errno.EAGAIN, errno.ENOMEM, errno.EBUSY, errno.ENODEV, errno.ENOBUFS])
def test_errors_that_pass_are_tried_again(number: int) -> None:
    """The numbers are written out in the class, so that it needs no import; they are these."""
    assert KernelError("links", "eth1", number).retry


def test_a_kernel_error_names_subsystem_object_and_reason() -> None:
    """In words, as the kernel's own tools do."""
    error = KernelError("routes", "10.0.0.0/8", errno.ENETUNREACH)
    assert (error.subsystem, error.what, error.errno) == ("routes", "10.0.0.0/8", errno.ENETUNREACH)
    assert str(error) == "routes: 10.0.0.0/8: Network is unreachable"
