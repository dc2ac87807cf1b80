"""Play one case: do its acts in order, look at what was heard, and give a verdict as soon as there is one.

Called by `stage` again and again with the time; everything else is values and speakers without sockets, so every case can be played
against transcripts. Design note 0010. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from functools import singledispatchmethod
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from itertools import pairwise
from typing import Final

from routing.bgp.notify import CEASE
from routing.bgp.values import Family, Network
from routing.interop import script, words
from routing.interop.hearing import Route, key
from routing.interop.octets import FOUR_OCTET, Update
from routing.interop.script import W6, Act, Case, Level, Result, Verdict, W
from routing.interop.speaker import Speaker
from routing.interop.world import ASN, ROUTER_ID, Member

#: Seconds in which anything must happen that nothing else is said of.
PATIENCE: Final = 10.0
#: How long what must not be said is waited for after what was said later has come.
QUIET: Final = 0.15
#: What is heard and wrong for so long stays wrong.
SETTLED: Final = 0.5
#: Between two attempts to connect.
PAUSE: Final = 0.2

_SHORTEST_HOLD: Final = 3

#: Done (None), not yet and why (a text), or the end of the case.
Outcome = str | Verdict | None


class Play:
    """One case on its way. `speakers` are the members of its cast and the witnesses."""

    def __init__(self, case: Case, speakers: Mapping[str, Speaker], patience: float = PATIENCE) -> None:
        """Nothing happens before the first turn."""
        self.case, self.speakers, self.patience = case, speakers, patience
        self._at = 0
        self._since: float | None = None
        self._up: set[str] = {name for name in (W, W6) if name in speakers}
        self._tried: dict[str, float] = {}
        self._wrong: tuple[Route, float] | None = None
        self._fences = 0
        self._fence: Network | None = None
        self._keys: frozenset[tuple[Family, bytes]] | None = None
        self._counted = -1, 0
        self._now = 0.0
        #: The device is to be told to end.
        self.stops = False
        for name in self._up:
            speakers[name].hearing.forget()

    def turn(self, now: float) -> Verdict | None:
        """Do what can be done now; return the verdict once there is one."""
        self._now = now
        while self._at < len(self.case.acts):
            act = self.case.acts[self._at]
            self._since = now if self._since is None else self._since
            outcome = self._troubles() or self._do(act)
            if isinstance(outcome, Verdict):
                return outcome
            if outcome is not None:
                late = now - self._since > (getattr(act, "within", None) or self.patience)
                return self._failed(outcome) if late else None
            self._at += 1
            self._since = self._wrong = self._fence = self._keys = None
        return Verdict(Result.PASS)

    def _failed(self, seen: str) -> Verdict:
        return Verdict(Result.FAIL if self.case.level is Level.MUST else Result.DIFFERS, seen)

    def _waited(self) -> float:
        return 0.0 if self._since is None else self._now - self._since

    def _troubles(self) -> Verdict | None:
        """Return what is wrong with any session that should be well."""
        ending = {act.who for act in self.case.acts[self._at :] if isinstance(act, script.Ended)}
        for name, speaker in self.speakers.items():
            if speaker.fault:
                return self._failed(f"{self._name(name)} was told {speaker.fault}")
            if name in self._up and name not in ending and (speaker.ended or speaker.notified is not None):
                return self._failed(f"the session of {self._name(name)} ended {words.ending(speaker.notified)}")
        return None

    def _name(self, who: str) -> str:
        return {W: "the witness", W6: "the witness of IPv6"}.get(who, f"{who} (AS {self.speakers[who].me.asn})")

    # -- acts

    @singledispatchmethod
    def _do(self, act: Act) -> Outcome:
        raise NotImplementedError(act)

    @_do.register
    def _(self, act: script.Connect) -> Outcome:
        self._up.discard(act.who)
        self._tried[act.who] = self._now
        self.speakers[act.who].connect(act.opening, instead=act.instead)
        return None

    @_do.register
    def _(self, act: script.Up) -> Outcome:
        speaker = self.speakers[act.who]
        if speaker.established:
            self._up.add(act.who)
            return None
        refused = speaker.notified is not None and speaker.notified.code != CEASE
        if refused and not act.sooner_or_later:
            return self._failed(f"{self._name(act.who)} was refused {words.ending(speaker.notified)}")
        if speaker.ended:
            self._again(act.who)
        return f"no session with {self._name(act.who)}: {_progress(speaker)}"

    def _again(self, who: str) -> None:
        """Try to connect again: it was not let in, which may have nothing to do with what it said."""
        if self._now - self._tried.get(who, 0.0) > PAUSE:
            self._tried[who] = self._now
            self.speakers[who].again()

    @_do.register
    def _(self, act: script.Say) -> Outcome:
        speaker = self.speakers[act.who]
        what = act.what
        speaker.say(what if isinstance(what, bytes) else what.octets(speaker.me, width=speaker.width))
        return None

    @_do.register
    def _(self, act: script.Hears) -> Outcome:
        route = self.speakers[act.who].hearing.routes.get(key(act.prefix))
        if route is None:
            return f"{self._name(act.who)} has not heard of {act.prefix}"
        wanted = {attribute.code: attribute for attribute in act.has}
        exact = act.like is not None and not act.codes
        if act.like is not None:
            said = act.like.attributes(self.speakers[act.by].me)
            wanted = {code: a for code, a in said.items() if exact or code in act.codes} | wanted
        wrong = words.differences(wanted, route, exact=exact)
        wrong += [f"{words.name(code)} {words.shown(route[code])} was passed on" for code in act.lacks if code in route]
        return self._settled(f"{self._name(act.who)} heard {'; '.join(wrong)}", route) if wrong else None

    def _settled(self, seen: str, route: Route) -> Outcome:
        if self._wrong is None or self._wrong[0] is not route:
            self._wrong = route, self._now
        return self._failed(seen) if self._now - self._wrong[1] > SETTLED else seen

    @_do.register
    def _(self, act: script.HearsAll) -> Outcome:
        here = self._here(act)
        if act.gone:
            return f"{self._name(act.who)} still has {here} of {len(act.prefixes)} prefixes" if here else None
        if here == len(act.prefixes):
            return None
        return f"{self._name(act.who)} has {here} of {len(act.prefixes)} prefixes"

    def _here(self, act: script.HearsAll) -> int:
        """Count the prefixes that are there, anew only when something was heard: they may be ten thousand."""
        hearing = self.speakers[act.who].hearing
        if self._keys is None:
            self._keys, self._counted = frozenset(map(key, act.prefixes)), (-1, 0)
        if self._counted[0] != hearing.updates:
            missing = self._keys.difference(hearing.routes)
            self._counted = hearing.updates, len(self._keys) - len(missing)
        return self._counted[1]

    @_do.register
    def _(self, act: script.Loses) -> Outcome:
        if key(act.prefix) not in self.speakers[act.who].hearing.routes:
            return None
        return f"{act.prefix} was not withdrawn from {self._name(act.who)}"

    @_do.register
    def _(self, act: script.Never) -> Outcome:
        hearing = self.speakers[act.who].hearing
        if key(act.prefix) in hearing.ever:
            route = hearing.routes.get(key(act.prefix), {})
            what = ", ".join(f"{words.name(code)} {words.shown(route[code])}" for code in sorted(route))
            return self._failed(f"{self._name(act.who)} heard of {act.prefix}: {what or 'and lost it again'}")
        return None if self._waited() > QUIET else "quiet"

    @_do.register
    def _(self, act: script.Keeps) -> Outcome:
        hearing = self.speakers[act.who].hearing
        if key(act.prefix) not in hearing.routes:
            return self._failed(f"{act.prefix} was withdrawn from {self._name(act.who)}")
        times = hearing.announced[key(act.prefix)]
        if times > act.times:
            return self._failed(f"{act.prefix} was announced {times} times to {self._name(act.who)}")
        return None if self._waited() > QUIET else "quiet"

    @_do.register
    def _(self, act: script.Ended) -> Outcome:
        speaker = self.speakers[act.who]
        if speaker.notified is None and not speaker.ended:
            return self._open(act)
        if speaker.notified is None and act.notifications and not speaker.heard and act.who not in self._up:
            self._again(act.who)
            return f"{self._name(act.who)} is not let in"
        self._up.discard(act.who)
        if not act.notifications:
            return None
        if not _matches(speaker, act.notifications):
            wanted = " or ".join(f"{code}/{'any' if sub is None else sub}" for code, sub in act.notifications)
            return self._failed(f"it ended {words.ending(speaker.notified)}, not {wanted}")
        if act.data is not None and speaker.notified is not None and speaker.notified.data != act.data:
            return self._failed(
                f"the data of the NOTIFICATION are {speaker.notified.data.hex() or 'none'}, not {act.data.hex()}"
            )
        return None

    def _open(self, act: script.Ended) -> Outcome:
        """Say what is known of a connection that should have ended: if it carries routes, it will not any more."""
        seen = f"the connection of {self._name(act.who)} stays open"
        if act.who in self._up and act.within is None and self._waited() > SETTLED and self._passed(act.who):
            return self._failed(f"{seen}, and what it says is passed on")
        return seen

    @_do.register
    def _(self, act: script.Alive) -> Outcome:
        return None if self._passed(act.who) else f"what {self._name(act.who)} says afterwards is not passed on"

    def _passed(self, who: str) -> bool:
        """Have a member announce what it never announced before; tell whether its witness has heard of it."""
        speaker = self.speakers[who]
        witness = self.speakers[W if speaker.me.family is Family.IPV4 else W6]
        if self._fence is None:
            self._fences += 1
            self._fence = _fence(speaker.me, self._fences)
            said = Update((self._fence,), family=speaker.me.family)
            speaker.say(said.octets(speaker.me, width=speaker.width))
        return key(self._fence) in witness.hearing.routes

    @_do.register
    def _(self, act: script.Offers) -> Outcome:
        offered = self.speakers[act.who].theirs or {}
        if act.capability not in offered:
            return Verdict(Result.NOT_SUPPORTED, f"capability {act.capability} is not offered")
        value = offered[act.capability]
        if act.value is not None and value != act.value:
            return self._failed(f"capability {act.capability} says {value.hex() or 'nothing'}, not {act.value.hex()}")
        return None

    @_do.register
    def _(self, act: script.Introduces) -> Outcome:
        speaker = self.speakers[act.who]
        version, asn, hold, identifier = struct.unpack_from("!BHHL", speaker.their_open)
        real = int.from_bytes((speaker.theirs or {}).get(FOUR_OCTET, asn.to_bytes(4, "big")), "big")
        found = {
            f"version {version}": version == 4,  # noqa: PLR2004
            f"AS {asn}": asn == ASN,
            f"AS {real} of four octets": real == ASN,
            f"a hold time of {hold} s": hold == 0 or hold >= _SHORTEST_HOLD,
            f"the identifier {IPv4Address(identifier)}": identifier == int(ROUTER_ID),
        }
        wrong = [what for what, right in found.items() if not right]
        return self._failed(f"its OPEN says {', '.join(wrong)}") if wrong else None

    @_do.register
    def _(self, act: script.Beats) -> Outcome:
        speaker = self.speakers[act.who]
        beats = speaker.keepalives
        gaps = [after - before for before, after in pairwise(beats)]
        if any(gap > speaker.hold_time for gap in gaps):
            return self._failed(f"{max(gaps):.1f} s between two KEEPALIVEs, the hold time is {speaker.hold_time} s")
        return None if len(beats) >= act.number else f"{len(beats)} KEEPALIVEs, not {act.number}"

    @_do.register
    def _(self, act: script.EndOfRib) -> Outcome:
        heard = act.family in self.speakers[act.who].hearing.ends_of_rib
        return None if heard else f"{self._name(act.who)} was not told End-of-RIB of {act.family.name}"

    @_do.register
    def _(self, act: script.Pause) -> Outcome:
        return None if self._waited() >= act.seconds else "a pause"

    @_do.register
    def _(self, act: script.Forget) -> Outcome:
        self.speakers[act.who].hearing.forget()
        return None

    @_do.register
    def _(self, act: script.Leave) -> Outcome:
        self._up.discard(act.who)
        self.speakers[act.who].say(act.last)
        self.speakers[act.who].hang_up()
        return None

    @_do.register
    def _(self, _: script.Stop) -> Outcome:
        self.stops = True
        return None


def _fence(me: Member, number: int) -> Network:
    number |= me.number << 8
    if me.family is Family.IPV4:
        return IPv4Network((0x0AFF0000 + number, 32))
    return IPv6Network(((0x20010DB8_FF00 << 80) + number, 128))


def _matches(speaker: Speaker, notifications: Iterable[tuple[int, int | None]]) -> bool:
    said = speaker.notified
    return said is not None and any(said.code == code and sub in (None, said.subcode) for code, sub in notifications)


def _progress(speaker: Speaker) -> str:
    if speaker.ended:
        return f"it ended {words.ending(speaker.notified)}" if speaker.heard else "it is not let in"
    if speaker.theirs is None:
        return "no OPEN came" if speaker.open else "no connection"
    return "no KEEPALIVE came after the OPENs"
