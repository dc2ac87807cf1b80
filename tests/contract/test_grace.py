"""Grace periods: who goes on waits for the packets of before, and for nothing else."""

from __future__ import annotations

import errno
import threading

import pytest

from appliance.kernel.grace import MEMBARRIER_CMD_QUERY, Grace, membarrier, offered, wait_for_readers
from appliance.model.errors import KernelError


class Kernel:
    """Readers that leave when told."""

    def __init__(self) -> None:
        self.entered, self.leave = threading.Semaphore(0), threading.Semaphore(0)

    def wait(self) -> None:
        """Stand for the system call."""
        self.entered.release()
        assert self.leave.acquire(timeout=10)


def test_the_number_of_the_system_call_is_right() -> None:
    """Asked what it can do, it says MEMBARRIER_CMD_GLOBAL."""
    assert membarrier(MEMBARRIER_CMD_QUERY) == offered()
    assert offered() & 1
    wait_for_readers()


def test_the_next_step_of_one_namespace_waits_and_of_another_does_not() -> None:
    """Until the readers of before have left."""
    kernel = Kernel()
    grace, ended = Grace(kernel.wait), threading.Event()
    grace.begin("red")
    assert kernel.entered.acquire(timeout=10)
    assert grace.under_way("red")
    grace.end("blue")

    def wait() -> None:
        grace.end("red")
        ended.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert not ended.is_set()
    kernel.leave.release()
    waiter.join(10)
    assert ended.is_set()
    assert not grace.under_way("red")
    grace.close()


def test_a_period_that_began_later_is_waited_for_anew() -> None:
    """The one under way began before, so it says nothing about later readers; one more is enough for all who ask."""
    kernel = Kernel()
    grace = Grace(kernel.wait)
    grace.begin("red")
    assert kernel.entered.acquire(timeout=10)
    grace.begin("red")
    grace.begin("blue")
    kernel.leave.release()
    assert kernel.entered.acquire(timeout=10)
    assert grace.under_way("red")
    assert grace.under_way("blue")
    kernel.leave.release()
    grace.end("red")
    grace.end("blue")
    assert not kernel.entered.acquire(blocking=False)
    grace.close()


def test_a_kernel_that_cannot_tell_is_an_error_that_says_so() -> None:
    """To everybody who waits, at once and later."""

    def refuse() -> None:
        raise KernelError("membarrier", "MEMBARRIER_CMD_GLOBAL", errno.EINVAL)

    grace = Grace(refuse)
    grace.begin("red")
    for _ in range(2):
        with pytest.raises(KernelError, match="MEMBARRIER_CMD_GLOBAL"):
            grace.end("red")
    grace.close()


def test_a_kernel_that_offers_nothing_is_an_error_at_once() -> None:
    """Before anything is changed whose consequences could not be waited for."""
    grace = Grace(query=lambda: 2)
    with pytest.raises(KernelError, match="nohz_full"):
        grace.begin("red")
    grace.close()


def test_closing_ends_the_thread() -> None:
    """And one that was never needed is never started."""
    others = set(threading.enumerate())
    Grace().close()
    grace = Grace()
    assert set(threading.enumerate()) <= others
    grace.begin("red")
    (thread,) = (one for one in threading.enumerate() if one.name == "grace" and one not in others)
    grace.end("red")
    grace.forget("red")
    grace.close()
    assert not thread.is_alive()
