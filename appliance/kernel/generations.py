"""Which generation an engine gets next, and the flow records that must forget theirs before (design 0004, "Wrap").

Called by `nft` before each bump. Generations run from 1 to 4095 and begin again, so a record that was silent all the time
could carry a value that is given out once more. While an engine is in the second part of one half of the values, a
thread sets the records that carry values of the other half to "never judged"; the other half is not entered before.
"""

from __future__ import annotations

import errno
import os
import random
import socket
import threading
from collections.abc import Callable, Collection
from typing import Final

from appliance.kernel.conntrack import KernelConntrack
from appliance.kernel.conntrack_codec import CtEntry, decode, dump_message, mark_message
from appliance.kernel.grace import wait_for_readers
from appliance.kernel.namespaces import Namespaces
from appliance.kernel.netlink import NETLINK_NETFILTER, batch, stream
from appliance.model.errors import KernelError
from appliance.model.facts import Namespace
from appliance.model.marks import ENGINE_MASK, ENGINE_SHIFT, GENERATION_MASK, GENERATION_SHIFT, GENERATIONS, Mark

HALF: Final = (GENERATIONS + 1) // 2
#: A half is swept for when this much of the other one is used up.
SWEEP_AT: Final = HALF // 2
_HALF_MASK: Final = HALF << GENERATION_SHIFT
#: A dump that the kernel interrupted is asked again, so often.
_DUMPS: Final = 10


class Sweep(threading.Thread):
    """One sweep of the records of a namespace whose mark under `mask` is `mark`."""

    def __init__(self, link: socket.socket, mark: int, mask: int) -> None:
        """Own the socket."""
        super().__init__(name="sweep", daemon=True)
        self.link, self.mark, self.mask = link, mark, mask
        self.error: OSError | KernelError | None = None

    def run(self) -> None:
        """Sweep once no packet is on its way that could stamp a swept value."""
        try:
            wait_for_readers()
            forget(self.link, self.mark, self.mask)
        except (OSError, KernelError) as error:
            self.error = error
        finally:
            self.link.close()


def forget(link: socket.socket, mark: int, mask: int) -> int:
    """Set records whose mark under `mask` is `mark` to "never judged"; return how many there were."""
    judged = [
        mark_message(entry, 0, GENERATION_MASK) for entry in _dump(link, mark, mask) if entry.mark & GENERATION_MASK
    ]
    for said in batch(link, judged):
        if said.errno not in {0, errno.ENOENT}:
            raise OSError(said.errno, said.message)
    return len(judged)


def _dump(link: socket.socket, mark: int, mask: int) -> list[CtEntry]:
    """Return a whole dump, asked again if the kernel interrupted it."""
    for _ in range(_DUMPS):
        try:
            return [decode(payload) for payload in stream(link, dump_message(mark, mask))]
        except OSError as error:
            if error.errno != errno.EINTR:
                raise
    raise OSError(errno.EINTR, os.strerror(errno.EINTR))


class Generations:
    """The generations of all engines of a node, in sequence."""

    def __init__(self, namespaces: Namespaces, start: Callable[[], int] | None = None) -> None:
        """`start` gives the generation of an engine that has none: any, for a sweep may miss a record (hash resize)."""
        self.namespaces = namespaces
        self._start = start or (lambda: random.randint(1, GENERATIONS))  # noqa: S311 - no secret
        self._conntrack = KernelConntrack(namespaces)
        self._sweeps: dict[tuple[Namespace, int], Sweep] = {}

    def after(self, ns: Namespace, engine: int, generation: int | None) -> int:
        """Return the generation after this one, free of records; wait for that if need be."""
        if generation is None:
            self._drop(ns, engine)
            return self._start()
        following = generation % GENERATIONS + 1
        if following & HALF != generation & HALF:
            self._swept(ns, engine, following & HALF)
        elif following % HALF >= SWEEP_AT and (ns, engine) not in self._sweeps:
            self._begin(ns, engine, ~following & HALF)
        return following

    def clear(self, ns: Namespace, known: Collection[int]) -> None:
        """Have records of engines that are not known never judged: they are of a table that is gone.

        A namespace without records, as new ones are, costs nothing.
        """
        if not self._conntrack.count(ns):
            return
        old = [
            entry
            for entry in self._conntrack.dump(ns)
            if entry.mark & GENERATION_MASK and Mark.of(entry.mark).engine not in known
        ]
        self._conntrack.set_mark(ns, old, 0, GENERATION_MASK)

    def forget(self, ns: Namespace) -> None:
        """Let go of a namespace: the socket of a sweep would keep it alive."""
        for name, engine in tuple(self._sweeps):
            if name == ns:
                self._drop(ns, engine)

    def close(self) -> None:
        """End what is under way."""
        for ns, engine in tuple(self._sweeps):
            self._drop(ns, engine)

    def _begin(self, ns: Namespace, engine: int, half: int) -> Sweep:
        """Sweep for an engine in a thread; the socket is made here, for a thread must not enter namespaces."""
        link = self.namespaces.new_netlink_socket(NETLINK_NETFILTER, ns)
        sweep = Sweep(link, half << GENERATION_SHIFT | engine << ENGINE_SHIFT, _HALF_MASK | ENGINE_MASK)
        self._sweeps[ns, engine] = sweep
        sweep.start()
        return sweep

    def _swept(self, ns: Namespace, engine: int, half: int) -> None:
        """Return when no record carries a value of this half; one attempt that failed is made again."""
        sweep = self._sweeps.pop((ns, engine), None)
        if sweep is not None:
            sweep.join()
        if sweep is None or sweep.error is not None:
            sweep = self._begin(ns, engine, half)
            self._drop(ns, engine)
        if sweep.error is not None:
            raise KernelError("conntrack", f"{ns} sweep for engine {engine}", sweep.error.errno or errno.EIO)

    def _drop(self, ns: Namespace, engine: int) -> None:
        """Wait for a sweep, and forget that it was."""
        sweep = self._sweeps.pop((ns, engine), None)
        if sweep is not None:
            sweep.join()
