"""The kinds of values an intent is made of, and the base of its sections; used by `intent`, `policy` and `inline`."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from appliance.model.marks import DEVICE_PREFIX

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
Asn = Annotated[int, Field(ge=1, le=4294967294, strict=True)]
Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
Mtu = Annotated[int, Field(ge=1280, le=65000, strict=True)]
PortText = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,5}(-[0-9]{1,5})?$"), BeforeValidator(str)]
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def strings_only(value: Any) -> Any:
    """Refuse numbers where an address stands: `10` would silently be 0.0.0.10."""
    if isinstance(value, bool | int | float):
        msg = "write an address in quotes or with dots, not a number"
        raise ValueError(msg)  # noqa: TRY004 - pydantic turns ValueError into a finding
    if isinstance(value, str) and "%" in value:
        msg = "write an address without a zone index"
        raise ValueError(msg)
    return value


def _not_reserved(name: str) -> str:
    """Refuse names that the kernel gives a meaning, and those of the devices we make."""
    if name in (".", "..", "lo", "all", "default") or name.startswith(DEVICE_PREFIX):
        msg = f"{name} is reserved"
        raise ValueError(msg)
    return name


Device = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,15}$"), AfterValidator(_not_reserved)]
V4 = Annotated[IPv4Address, BeforeValidator(strings_only)]
V6 = Annotated[IPv6Address, BeforeValidator(strings_only)]
AnyAddress = Annotated[Address, BeforeValidator(lambda value: ip_address(strings_only(value)))]
V4Net = Annotated[IPv4Network, BeforeValidator(strings_only)]
V6Net = Annotated[IPv6Network, BeforeValidator(strings_only)]
AnyNet = Annotated[Network, BeforeValidator(lambda value: ip_network(strings_only(value)))]


class Section(BaseModel):
    """Base of every section: frozen, unknown keys refused, kebab-case keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=lambda name: name.rstrip("_").replace("_", "-"),
        str_strip_whitespace=True,
    )
