"""What a case is made of: acts, in order, as values; and what can come of it.

Written in `cases`, played by `play`. `who` names a part of the case, or one of the witnesses `W` and `W6`. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from routing.bgp.attributes import Attribute
from routing.bgp.values import Family, Network
from routing.interop.octets import Opening, Update
from routing.interop.world import Knob, Part

#: The witnesses of IPv4 and IPv6: members who are there all the time and only listen.
W: Final = "w"
W6: Final = "w6"
WITNESSES: Final = "witnesses"


class Level(Enum):
    """How strong the RFC is."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"


class Result(Enum):
    """What came of a case."""

    PASS = "pass"  # noqa: S105 - no secret
    FAIL = "fail"
    DIFFERS = "differs"
    NOT_SUPPORTED = "not supported"
    NOT_CONFIGURED = "not configured"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A result, and what was seen if it is not as it should be."""

    result: Result
    seen: str = ""


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect and say OPEN, or `instead` in its place. Tried again as long as nothing comes back at all."""

    who: str
    opening: Opening = Opening()  # noqa: RUF009 - frozen
    instead: bytes | None = None


@dataclass(frozen=True, slots=True)
class Up:
    """The session is established; `sooner_or_later`: whatever it is refused for at first."""

    who: str
    sooner_or_later: bool = False
    within: float | None = None


@dataclass(frozen=True, slots=True)
class Say:
    """Say an UPDATE, another OPEN or any octets."""

    who: str
    what: Update | Opening | bytes


@dataclass(frozen=True, slots=True)
class Hears:
    """Has the prefix with these attributes.

    Of `like`, said by `by`, those of `codes` (none named: all that there are must be equal, and no other be there); `has` in any
    case, `lacks` never. Only of `has` and `like` are the flags compared, without Extended Length.
    """

    who: str
    prefix: Network
    like: Update | None = None
    by: str = ""
    codes: tuple[int, ...] = ()
    has: tuple[Attribute, ...] = ()
    lacks: tuple[int, ...] = ()
    within: float | None = None


@dataclass(frozen=True, slots=True)
class HearsAll:
    """Has all these prefixes, or, `gone`, none of them any more."""

    who: str
    prefixes: tuple[Network, ...]
    gone: bool = False
    within: float | None = None


@dataclass(frozen=True, slots=True)
class Loses:
    """Has the prefix no longer, though it had."""

    who: str
    prefix: Network
    within: float | None = None


@dataclass(frozen=True, slots=True)
class Never:
    """Has not heard of the prefix since it connected or `Forget`."""

    who: str
    prefix: Network


@dataclass(frozen=True, slots=True)
class Keeps:
    """Still has the prefix, and was told it no more than `times`."""

    who: str
    prefix: Network
    times: int = 1


@dataclass(frozen=True, slots=True)
class Ended:
    """The connection ends with one of these NOTIFICATIONs, each code and subcode, None for any. Empty: it just ends."""

    who: str
    notifications: tuple[tuple[int, int | None], ...] = ()
    within: float | None = None
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Alive:
    """The session lives: what is said now comes to the witness of its family."""

    who: str


@dataclass(frozen=True, slots=True)
class Offers:
    """The OPEN that came back offers a capability, with this value if one is given."""

    who: str
    capability: int
    value: bytes | None = None


@dataclass(frozen=True, slots=True)
class Introduces:
    """The OPEN that came back says who the device is: version, AS, identifier, a hold time that is allowed."""

    who: str


@dataclass(frozen=True, slots=True)
class Beats:
    """KEEPALIVEs come, none later than the hold time after the one before, `number` of them."""

    who: str
    number: int
    within: float


@dataclass(frozen=True, slots=True)
class EndOfRib:
    """End-of-RIB of the family was said."""

    who: str
    family: Family
    within: float | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Let time pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Forget:
    """Take what was heard so far as not said."""

    who: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Close the connection, after last octets; nothing: without a word."""

    who: str
    last: bytes = b""


@dataclass(frozen=True, slots=True)
class Stop:
    """The device is told to end (SIGTERM)."""


Act = (
    Connect
    | Up
    | Say
    | Hears
    | HearsAll
    | Loses
    | Never
    | Keeps
    | Ended
    | Alive
    | Offers
    | Introduces
    | Beats
    | EndOfRib
    | Pause
    | Forget
    | Leave
    | Stop
)


@dataclass(frozen=True, slots=True)
class Case:
    """One sentence of an RFC and how to find out whether it is kept."""

    name: str
    rfc: str
    text: str
    acts: tuple[Act, ...]
    cast: Mapping[str, Part] = field(default_factory=lambda: {"a": Part()})
    level: Level = Level.MUST
    #: Second connections of a part: name -> part.
    twins: Mapping[str, str] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """Return the part of the name before the slash."""
        return self.name.partition("/")[0]

    @property
    def stops(self) -> bool:
        """Tell whether the device is stopped: such a case comes last of all."""
        return any(isinstance(act, Stop) for act in self.acts)

    @property
    def knobs(self) -> frozenset[Knob]:
        """Return what the configuration must be able to say for it."""
        said = {
            Knob.NO_POLICY: any(part.no_policy for part in self.cast.values()),
            Knob.SHUN: any(part.shuns for part in self.cast.values()),
            Knob.ROLE: any(part.role for part in self.cast.values()),
        }
        return frozenset(knob for knob, needed in said.items() if needed)


def join(*names: str, opening: Opening = Opening()) -> tuple[Act, ...]:  # noqa: B008 - frozen
    """Bring sessions up, all at once."""
    return (*(Connect(name, opening) for name in names), *(Up(name) for name in names))
