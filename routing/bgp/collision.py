"""Which of two connections with a neighbour survives (RFC 4271 6.8, RFC 4724 5).

Called by `routing.bgp.peering` when an OPEN comes that would do. Both ends may connect at once; which connection
survives must not depend on what arrives first, or each end drops the other one's. It is the one that the higher
identifier made:

- An OPEN on the other one is not answered while the neighbour's OPEN on the preferred one may still come. That one may be
  lost, so not for long; should its OPEN come later than that, it wins none the less.
- While a connection is in OpenConfirm or Established, a new one waits for the neighbour's OPEN before it sends ours
  (DelayOpen). Besides a session it is then refused, unless the neighbour has restarted.
"""

from __future__ import annotations

from collections.abc import Iterable

from routing.bgp.fsm import Event
from routing.bgp.machine import LASTED, Admission, Machine
from routing.bgp.negotiation import Agreement
from routing.bgp.notify import CEASE, Notify
from routing.engines.engine import SessionState

#: How long the preferred connection is waited for, as a session or besides one: many round trips, but no hold time.
PATIENCE = 2.0

CONFIRMED = (SessionState.OPENCONFIRM, SessionState.ESTABLISHED)
_COLLISION = 7


def dump(machine: Machine, now: float) -> None:
    """End a connection because there is another one."""
    machine.fire(Event.COLLISION_DUMP, now, Notify(CEASE, _COLLISION))


def admit(
    machine: Machine,
    rivals: Iterable[Machine],
    ours_is_kept: bool,  # noqa: FBT001 - what the identifiers say
    agreement: Agreement,
    now: float,
) -> Admission:
    """Say what becomes of the connection on which the OPEN came, and dump it or the rivals that it replaces."""
    preferred = machine.outgoing is ours_is_kept
    for rival in rivals:
        if rival.state is SessionState.ESTABLISHED and not machine.opened:
            if not _has_restarted(machine, rival, agreement):
                dump(machine, now)
                return Admission.DUMPED
            # RFC 4724 5: the old connection goes without a NOTIFICATION, its routes are kept.
            rival.fire(Event.TCP_FAILS, now, detail="the neighbour came again")
        elif rival.state in CONFIRMED or rival.postponed is not None:
            dump(rival if preferred else machine, now)
            if not preferred:
                return Admission.DUMPED
        elif rival.opened and not preferred:
            machine.timers[Event.DELAY_OPEN_EXPIRES] = now + PATIENCE
            return Admission.LATER
    return Admission.NOW


def _has_restarted(machine: Machine, session: Machine, agreement: Agreement) -> bool:
    """Tell whether a newcomer means that the session is over, or only that both ends connected at the same time."""
    before = session.agreement
    if before is None or before.established.restart_time is None:
        return False
    # All connections of one beginning say R alike.
    return (agreement.restarting and not before.restarting) or machine.since - session.since >= LASTED
