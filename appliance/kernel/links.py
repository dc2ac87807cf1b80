"""The port of `Link` facts: veth pairs, bridges, vxlan devices, and devices somebody else made, over rtnetlink.

A device of ours carries `marks.ALIAS` as its alias, followed by words: `physical` for one that we only moved, and the
names of the optional fields that its fact sets (`mtu`, `mac`), so that what is read back is exactly what was asked for
by any process at any time. What can change in place (mtu, mac, master, up, what it is to its bridge) does; anything
else is delete and create.

A crash between making and marking leaves a device without alias that is down; when one of the wanted kind stands where
ours should, it is taken over. Called by the reconciler; the kernel's side of the rules is in `devices`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from appliance.kernel.devices import Device, Peers, devices
from appliance.kernel.exchanges import Netlink
from appliance.kernel.link_messages import Request, configure, create, delete, give_back, move_in
from appliance.kernel.netlink import NETLINK_ROUTE
from appliance.kernel.port import Failure
from appliance.kernel.watching import LINK, watch_route
from appliance.model.errors import KernelError
from appliance.model.facts import HOST, Link, LinkKind, Namespace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from appliance.kernel.namespaces import Namespaces
    from appliance.state.diff import Plan

Act = Callable[[Link], None]
Survey = dict[Namespace, dict[str, Device]]


class LinksPort:
    """Devices of the node's own namespace and of every namespace that is ours."""

    def __init__(self, namespaces: Namespaces) -> None:
        """Speak rtnetlink in `namespaces`."""
        self.namespaces = namespaces
        self._netlink = Netlink(namespaces, NETLINK_ROUTE, "link")
        self._peers = Peers(self._netlink)

    def read(self) -> frozenset[Link]:
        """Return every device that carries our alias."""
        survey = self._survey()
        return frozenset(
            self._fact(survey, ns, device) for ns, found in survey.items() for device in found.values() if device.ours
        )

    def apply(self, plan: Plan[Link]) -> tuple[Failure, ...]:
        """Delete; then make what is missing; then set what can be set in place, masters last of all."""
        failures: dict[Link, KernelError] = {}
        survey = self._survey()
        self._each(failures, (change.fact for change in plan.of("delete")), lambda link: self._delete(survey, link))
        wanted = [change.fact for kind in ("update", "create") for change in plan.of(kind)]
        wanted.sort(key=lambda link: (link.kind != "bridge", link.ns, link.name))
        self._each(failures, wanted, lambda link: self._make(survey, link))
        survey = self._survey()
        made = [link for link in wanted if link not in failures]
        self._each(failures, made, lambda link: self._configure(survey, link))
        return tuple(Failure(link, error) for link, error in failures.items())

    def carriers(self, namespaces: Iterable[Namespace]) -> dict[tuple[Namespace, str], bool]:
        """Tell of every device in some namespaces whether it is connected; one that is lowered is not."""
        wanted = frozenset(namespaces)
        found = self.namespaces.each(lambda ns: devices(self._netlink, ns) if ns in wanted else {})
        return {(ns, name): device.carrier for ns, there in found.items() for name, device in there.items()}

    def watch(self) -> AsyncIterator[str]:
        """Yield when a device appears, changes or goes in any namespace of ours."""
        return watch_route(self.namespaces, (LINK,), "link")

    def close(self) -> None:
        """Nothing of its own: sockets belong to `Namespaces`."""

    @staticmethod
    def _each(failures: dict[Link, KernelError], links: Iterable[Link], act: Act) -> None:
        """Do something to each link; keep what the kernel says against it."""
        for link in links:
            try:
                act(link)
            except KernelError as error:
                failures[link] = error

    def _survey(self) -> Survey:
        """Look at all devices of all our namespaces."""
        return self.namespaces.each(lambda ns: devices(self._netlink, ns))

    def _fact(self, survey: Survey, ns: Namespace, device: Device) -> Link:
        """Say what a device of ours is, as a fact."""
        assert device.marks is not None  # noqa: S101 - asked for our own only
        masters = [other.name for other in survey[ns].values() if other.index == device.master] if device.master else []
        kind = "physical" if device.physical else device.kind
        fact = Link(
            ns,
            device.name,
            cast("LinkKind", kind),  # our alias is put on these kinds only
            mtu=device.mtu if "mtu" in device.marks else None,
            mac=device.mac if "mac" in device.marks else None,
            master=masters[0] if masters else None,
            learning=device.learning,
            isolated=device.isolated,
            up=device.up,
        )
        if kind == "veth":
            return replace(fact, peer=self._peer(survey, ns, device))
        if kind == "vxlan":
            port = device.port if "port" in device.marks else None
            return replace(fact, vni=device.vni, local=device.local, port=port)
        return fact

    def _peer(self, survey: Survey, ns: Namespace, device: Device) -> tuple[Namespace, str] | None:
        """Find the other end of a veth; None if it is in a namespace that is not ours."""
        there = self._peers.namespace(ns, device.nsid)
        found = survey.get(there, {}) if there is not None else {}
        names = [other.name for other in found.values() if other.index == device.link]
        return (there, names[0]) if there is not None and names else None

    def _delete(self, survey: Survey, link: Link) -> None:
        """Remove a device of ours, or give it back; absent or foreign is nothing."""
        device = survey.get(link.ns, {}).get(link.name)
        if device is None or not device.ours:
            return
        if not device.physical:
            self._remove(survey, link.ns, device)
            return
        self._send(link, give_back(self.namespaces, link.ns, device))
        for ns in {link.ns, HOST}:
            survey[ns] = devices(self._netlink, ns)

    def _remove(self, survey: Survey, ns: Namespace, device: Device) -> None:
        """Delete a device, and a veth's other end with it."""
        peer = self._peer(survey, ns, device) if device.kind == "veth" else None
        self._send(Link(ns, device.name, "veth"), delete(ns, device), missing=True)
        del survey[ns][device.name]
        if peer is not None:
            survey[peer[0]].pop(peer[1], None)

    def _make(self, survey: Survey, link: Link) -> None:
        """See to it that there is a device with all that cannot be changed in place."""
        if link.ns not in survey:
            raise KernelError("link", f"{link.ns}/{link.name}: no such namespace", errno.ENODEV)
        if link.kind == "physical":
            self._bring(survey, link)
            return
        ends = [(link.ns, link.name), *([link.peer] if link.peer else [])]
        if all(self._is_right(survey, link, *end) for end in ends):
            return
        for ns, name in ends:
            self._clear(survey, link, ns, name)
        self._send(link, create(self.namespaces, link))
        for ns in {ns for ns, _ in ends}:
            survey[ns] = devices(self._netlink, ns)

    def _is_right(self, survey: Survey, link: Link, ns: Namespace, name: str) -> bool:
        """Tell whether what stands at `name` is this link (or its other end) as far as it cannot change in place."""
        device = survey.get(ns, {}).get(name)
        if device is None or device.physical or device.kind != link.kind or not (device.ours or not device.up):
            return False
        if link.kind == "veth":
            ends = {(link.ns, link.name), link.peer}
            return {(ns, name), self._peer(survey, ns, device)} == ends
        wanted = (link.vni, link.local, link.port or device.port, link.learning)
        return link.kind != "vxlan" or (device.vni, device.local, device.port, device.learning) == wanted

    def _clear(self, survey: Survey, link: Link, ns: Namespace, name: str) -> None:
        """Remove what stands where a device of ours must go, if it is ours or was left half-made."""
        if ns not in survey:
            raise KernelError("link", f"{ns}/{name}: no such namespace", errno.ENODEV)
        device = survey[ns].get(name)
        if device is None:
            return
        half_made = device.kind == link.kind and not device.up and device.marks is None
        if device.physical or not (device.ours or half_made):
            raise KernelError("link", f"{ns}/{name} is another's", errno.EEXIST)
        self._remove(survey, ns, device)

    def _bring(self, survey: Survey, link: Link) -> None:
        """Have a physical device in the namespace where it is wanted."""
        device = survey[link.ns].get(link.name)
        if device is not None and device.ours and not device.physical:
            self._remove(survey, link.ns, device)
            device = None
        if device is not None:
            return
        outside = survey[HOST].get(link.name)
        if outside is None:
            raise KernelError("link", f"{link.ns}/{link.name}", errno.ENODEV)
        self._send(link, move_in(self.namespaces, link, outside))
        del survey[HOST][link.name]
        survey[link.ns] = devices(self._netlink, link.ns)

    def _configure(self, survey: Survey, link: Link) -> None:
        """Mark and set a device, raise or lower it."""
        found = survey.get(link.ns, {})
        device = found.get(link.name)
        master = found.get(link.master) if link.master else None
        if device is None or (link.master and master is None):
            missing = link.name if device is None else link.master
            raise KernelError("link", f"{link.ns}/{missing}", errno.ENODEV)
        for message in configure(link, device, master.index if master else 0):
            self._send(link, Request(link.ns, message))

    def _send(self, link: Link, request: Request, *, missing: bool = False) -> None:
        """Send one request; raise what the kernel says, unless the device was gone already and may be."""
        said = self._netlink.batch(request.ns, [request.message])[0]
        if said.errno and not (missing and said.errno == errno.ENODEV):
            raise self._netlink.error(f"{link.ns}/{link.name}", said)
