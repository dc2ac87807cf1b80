"""How long to wait before trying again: ConnectRetryTime and IdleHoldTime of RFC 4271 8, for one neighbour.

Called by `routing.bgp.connection`. Both grow while trying does not help. The jitter of RFC 4271 10 is a function of the
neighbour's address, so that many sessions spread and a test knows when.
"""

from __future__ import annotations

from zlib import crc32

from routing.bgp.values import Address

SHORTEST_CONNECT_RETRY = 2.0
LONGEST_CONNECT_RETRY = 30.0
SHORTEST_IDLE_HOLD = 1.0
LONGEST_IDLE_HOLD = 60.0
_ENOUGH = 10  # doublings, to stay far from overflow


class Pace:
    """What has been tried without success: attempts to connect since there was a session, and errors.

    `errors` is the ConnectRetryCounter of the RFC. `held_until`: until then the neighbour may not come either.
    """

    __slots__ = ("_jitter", "attempts", "errors", "held_until")

    def __init__(self, address: Address) -> None:
        """Begin fresh."""
        # RFC 4271 10: "a uniform distribution between 0.75 and 1.0".
        self._jitter = 0.75 + crc32(address.packed) / (1 << 34)
        self.clear()

    def clear(self) -> None:
        """Forget all failures."""
        self.attempts = 0
        self.errors = 0
        self.held_until: float | None = None

    def connect_retry(self) -> float:
        """Return how long an attempt to connect may take, or to wait until the next one."""
        return self._jitter * min(LONGEST_CONNECT_RETRY, SHORTEST_CONNECT_RETRY * _doublings(self.attempts))

    def idle_hold(self) -> float:
        """Return how long to stay away after an error."""
        return self._jitter * min(LONGEST_IDLE_HOLD, SHORTEST_IDLE_HOLD * _doublings(self.errors))


def _doublings(count: int) -> int:
    return 1 << min(max(count - 1, 0), _ENOUGH)
