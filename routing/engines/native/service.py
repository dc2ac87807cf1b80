"""What the process does for the daemon beside BGP: tells it what happens, answers it, keeps who is up for the next process.

Called by the loop at the end of every turn. The file of those who are up is written a second after it was written last at the
soonest: a thousand sessions that come up together are not a thousand files.
"""

from __future__ import annotations

from routing.bgp.values import Address
from routing.engines.files import Files
from routing.engines.native.control import Control
from routing.engines.native.core import Core
from routing.engines.native.log import log

PAUSE = 1.0
#: Seconds until a file that could not be written is tried again.
AGAIN = 60.0


class Service:
    """The daemon's side of the process."""

    def __init__(self, core: Core, control: Control, files: Files) -> None:
        """Serve for `core`; `files` were written by an earlier process, perhaps."""
        self._core, self._control, self._files = core, control, files
        #: None: what an earlier process wrote.
        self._kept: tuple[Address, ...] | None = None
        self._due: float | None = None
        self._next = 0.0

    def filenos(self) -> dict[int, int]:
        """Return the descriptors to watch, with their epoll events."""
        return self._control.filenos()

    def ready(self, fileno: int, events: int) -> None:
        """Serve a descriptor."""
        self._control.ready(fileno, events)

    def work(self) -> bool:
        """Do a bounded slice of what is left to do; tell whether there is more."""
        return self._control.work()

    def settled(self, now: float) -> None:
        """Tell watchers what happened, and keep who is up."""
        if events := self._core.take_events():
            self._control.publish(events)
            # Sessions come and go with events; before convergence the file says whom an earlier process knew.
            if self._core.server.converged and self._due is None:
                self._due = max(now, self._next)
        if self._due is not None and self._due <= now:
            self._keep(now)

    def deadline(self) -> float | None:
        """Return when `settled` or `filenos` has something to do next."""
        return min((due for due in (self._due, self._control.deadline()) if due is not None), default=None)

    def _keep(self, now: float) -> None:
        self._due = None
        established = self._core.server.established()
        if established == self._kept:
            return
        try:
            self._files.write_established(established)
        except OSError as error:
            # A full disk is no reason to end the sessions.
            log("established-not-kept", error=str(error))
            self._due = now + AGAIN
            return
        self._kept, self._next = established, now + PAUSE
