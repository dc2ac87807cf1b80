"""What every kernel port promises: read, apply, watch.

Laws, held by one contract test a port, on the fake and on this kernel:

1. `read()` gives only what we own (alias, protocol number, table name) and never changes anything.
2. `apply(plan)` then `read()` gives the desired facts; applying the same desired facts again is an empty plan.
3. Deleting what is absent succeeds; foreign objects are never touched.
4. A failure names the object (`Failure`); what could be applied stays applied, one transaction where the kernel has
   one (nft: a batch a namespace; routes: a packed batch).
5. A fact whose device is not there (yet) is a Failure with `retry` true, not an exception.
6. `watch()` yields "listening" first: from then on nothing is missed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from appliance.state.diff import Keyed, Plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from appliance.model.errors import KernelError

F = TypeVar("F", bound=Keyed)
F_contra = TypeVar("F_contra", bound=Keyed, contravariant=True)


@dataclass(frozen=True, slots=True)
class Failure:
    """A change that the kernel refused; the fact stays pending."""

    fact: Keyed
    error: KernelError


class Port(Protocol[F]):
    """One kernel subsystem of one node."""

    def read(self) -> frozenset[F]:
        """Return every fact of ours that the kernel holds now."""
        ...

    def apply(self, plan: Plan[F]) -> tuple[Failure, ...]:
        """Carry out the plan; return what was refused."""
        ...

    def watch(self) -> AsyncIterator[str]:
        """Yield a short reason each time the kernel's side may have changed under us; never ends by itself."""
        ...

    def close(self) -> None:
        """Release sockets; leaves the kernel as it is."""
        ...


@runtime_checkable
class Attentive(Protocol[F_contra]):
    """A port that cannot tell from the kernel alone what is there, and is told what is wanted before it reads."""

    def attend(self, desired: Iterable[F_contra]) -> None:
        """Be told all that is wanted: changes nothing, lets `read` recognise what is right already."""
        ...
