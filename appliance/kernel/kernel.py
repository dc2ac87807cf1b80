"""All kernel ports of one node, made together (in memory: `fakes.kernel`).

Made by the wiring of the daemon and by `edgeway plan`; `ports` is what the reconciler is given, under the names it uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from appliance.kernel.addresses import AddressesPort
from appliance.kernel.compose import ComposePort
from appliance.kernel.conntrack import Conntrack, KernelConntrack
from appliance.kernel.links import LinksPort
from appliance.kernel.namespaces import DIRECTORY, Namespaces
from appliance.kernel.neighbours import FdbPort, NeighboursPort
from appliance.kernel.netns import NetnsPort
from appliance.kernel.nft import NftPort
from appliance.kernel.route_lookup import KernelRouteLookup, RouteLookup
from appliance.kernel.routes import RoutesPort
from appliance.kernel.steers import SteersPort
from appliance.kernel.sysctls import SysctlsPort
from appliance.kernel.wires import WiresPort

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from appliance.kernel.port import Port


@dataclass(frozen=True, slots=True)
class Kernel:
    """One node's kernel."""

    namespaces: Namespaces
    ports: Mapping[str, Port[Any]]
    conntrack: Conntrack
    lookup: RouteLookup

    @classmethod
    def real(cls, directory: Path = DIRECTORY) -> Kernel:
        """Speak to the kernel of the namespace that this thread is in; `directory` holds the names of the others."""
        namespaces = Namespaces(directory)
        ports: dict[str, Port[Any]] = {
            "namespaces": NetnsPort(namespaces),
            "links": LinksPort(namespaces),
            "sysctls": SysctlsPort(namespaces),
            "addresses": AddressesPort(namespaces),
            "neighbours": NeighboursPort(namespaces),
            "fdb": FdbPort(namespaces),
            "steers": SteersPort(namespaces),
            "nft": NftPort(namespaces),
            "wires": WiresPort(namespaces),
            "compose": ComposePort(namespaces),
            "routes": RoutesPort(namespaces),
        }
        return cls(namespaces, ports, KernelConntrack(namespaces), KernelRouteLookup(namespaces))

    def close(self) -> None:
        """Release what is held; the kernel stays as it is."""
        for port in self.ports.values():
            port.close()
        self.namespaces.close()
