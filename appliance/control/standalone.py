"""`edgeway plan` where no daemon runs: read this kernel, compile, compare."""

from __future__ import annotations

from appliance.control.compile import Desired, compile_intent
from appliance.control.reconcile import Plans, Reconciler
from appliance.kernel.kernel import Kernel
from appliance.model.intent import Intent


def plan_without_daemon(intent: Intent, node: str) -> tuple[Plans, Desired]:
    """Return what the intent would change in this kernel; changes nothing."""
    desired = compile_intent(intent, node)
    return Reconciler(Kernel.real().ports).plan(desired.facts), desired
