"""`edgeway plan` where no daemon runs: read this kernel, compile, compare."""

from __future__ import annotations

from appliance.control.commit import require_node
from appliance.control.compile import Desired, Known, compile_intent
from appliance.control.reconcile import Plans, Reconciler
from appliance.control.remains import kept_instructions, kept_members, with_kept_routes
from appliance.kernel.kernel import Kernel
from appliance.model.intent import Intent


def plan_without_daemon(intent: Intent, node: str, kernel: Kernel | None = None) -> tuple[Plans, Desired]:
    """Return what a daemon that starts with the intent would change in this kernel; changes nothing."""
    require_node(intent, node)
    ports = (kernel or Kernel.real()).ports
    desired = compile_intent(intent, node, Known(members=kept_members(ports)))
    facts = (*desired.facts, *kept_instructions(ports, desired.facts))
    return Reconciler(ports).plan(with_kept_routes(ports, facts)), desired
