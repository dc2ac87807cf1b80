"""One device and all cases: start it, bring the witnesses up, play case by case, start it again where one has cost too much.

Called by the command line and the tests. Needs root.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Final, Self

from appliance.model.errors import OperatorError
from routing.bgp.messages import encode_notification
from routing.bgp.notify import ADMINISTRATIVE_SHUTDOWN, shutdown
from routing.interop.cases import ALL, world
from routing.interop.device import Device
from routing.interop.dialects.dialect import Dialect
from routing.interop.place import Place
from routing.interop.play import PATIENCE, Play
from routing.interop.script import W6, WITNESSES, Case, Connect, Result, Up, Verdict, W
from routing.interop.speaker import Speaker
from routing.interop.stage import Stage
from routing.interop.world import Knob, World

#: Seconds in which a device must let its first neighbour in, and lose what a case has left behind.
_START: Final = 40.0
_CLEAN: Final = 3.0
_TURN: Final = 0.02
#: How long a process may take to end after its connections did.
_DEATH: Final = 0.5
#: A device that has to be started so often is not worth going on with.
_LIVES: Final = 12

_GOODBYE: Final = encode_notification(shutdown(ADMINISTRATIVE_SHUTDOWN))
#: A router that has just started may not know its own interfaces yet.
_COMING: Final = (Connect(W), Connect(W6), Up(W, sooner_or_later=True), Up(W6, sooner_or_later=True))
_WITNESSES: Final = Case(WITNESSES, "", "the witnesses come up", _COMING, {})


@dataclass(frozen=True, slots=True)
class Dut:
    """A device to test: what it is called, its language and its command."""

    name: str
    dialect: Dialect
    command: str


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one case at one device, and how long that took."""

    case: Case
    verdict: Verdict
    seconds: float = 0.0


class _InterruptedError(Exception):
    """Somebody else's failure, or the user, ends all."""


Progress = Callable[[Row], None]


def run_all(duts: Sequence[Dut], play: Callable[[Dut, Event], list[Row]], jobs: int) -> list[list[Row]]:
    """Play at several devices, so many at once; if one cannot be asked, or we are interrupted, all end."""
    stop = Event()
    with ThreadPoolExecutor(max_workers=max(1, min(jobs, len(duts)))) as pool:
        futures = [pool.submit(play, dut, stop) for dut in duts]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
    failed = [error for future in futures if (error := future.exception()) and not isinstance(error, _InterruptedError)]
    if failed:
        raise failed[0]
    return [future.result() for future in futures]


def run(
    dut: Dut,
    cases: Iterable[Case] = ALL,
    *,
    patience: float = PATIENCE,
    progress: Progress = lambda _: None,
    stop: Event | None = None,
) -> list[Row]:
    """Play the cases at a device; `stop` ends it early."""
    cases = tuple(cases)
    rows: list[Row] = []
    with ExitStack() as stack:
        directory = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="edgeway-interop-", ignore_cleanup_errors=True)
        )
        wanted = world(cases)
        place = stack.enter_context(Place(wanted))
        bench = stack.enter_context(_Bench(dut, wanted, place, Path(directory), patience, stop or Event()))
        for case in cases:
            begun = time.monotonic()
            row = Row(case, _verdict(bench, dut.dialect.knobs, case), time.monotonic() - begun)
            rows.append(row)
            progress(row)
    return rows


def _verdict(bench: _Bench, knobs: frozenset[Knob], case: Case) -> Verdict:
    missing = case.knobs - knobs
    if missing:
        return Verdict(Result.NOT_CONFIGURED, f"needs {', '.join(sorted(knob.value for knob in missing))}")
    return bench.play(case)


def _perhaps_dead(verdict: Verdict, device: Device) -> Verdict:
    """Say that the device has ended where that is why a connection did, whatever the case was about."""
    deadline = time.monotonic() + _DEATH
    while verdict.result in (Result.FAIL, Result.DIFFERS) and time.monotonic() < deadline:
        if device.status is not None:
            return Verdict(Result.FAIL, f"it ended with status {device.status}:\n{device.last_words}")
        time.sleep(_TURN)
    return verdict


class _Bench:
    """The device, the witnesses and the stage, for as long as they last."""

    def __init__(self, dut: Dut, wanted: World, place: Place, directory: Path, patience: float, stop: Event) -> None:
        self._stop = stop
        self._dut, self._world, self._place, self._patience = dut, wanted, place, patience
        self._directory = directory
        self._stage = Stage(place, dict(wanted.addresses))
        self._device: Device | None = None
        self._lives = 0
        self._witnesses: dict[str, Speaker] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def play(self, case: Case) -> Verdict:
        """Play a case; a device that does not even start is the end of all."""
        try:
            device = self._ready()
        except OperatorError as error:
            if not self._lives:
                raise
            return Verdict(Result.ERROR, str(error))
        cast = {part: Speaker(member) for part, member in self._world.cast(case.name).items()}
        cast |= {name: Speaker(cast[part].me) for name, part in case.twins.items()}
        verdict = self._play(case, cast | self._witnesses, device, self._patience)
        if case.stops or not self._left(cast.values(), device):
            self._end()
        return verdict

    def _ready(self) -> Device:
        """Return the device, with witnesses; start it if it does not run."""
        if self._device is not None:
            return self._device
        if self._lives >= _LIVES:
            raise OperatorError.of(f"{self._dut.name} had to be started {self._lives} times already")
        directory = Path(tempfile.mkdtemp(dir=self._directory))
        directory.parent.chmod(0o755)
        device = self._device = Device(self._dut.dialect, self._dut.command, directory)
        device.start(self._world, self._place)
        self._witnesses = {part: Speaker(member) for part, member in self._world.cast(WITNESSES).items()}
        verdict = self._play(_WITNESSES, self._witnesses, device, _START)
        if verdict.result is not Result.PASS:
            words = device.last_words
            self._end()
            hint = "these are its last lines; does the command work by hand, and does it listen on port 179?"
            raise OperatorError.of(f"{self._dut.name}: {verdict.seen}\n{words}\n", hint)
        self._lives += 1
        return device

    def _play(self, case: Case, speakers: dict[str, Speaker], device: Device, patience: float) -> Verdict:
        play = Play(case, speakers, patience)
        stopped = False
        while (verdict := play.turn(time.monotonic())) is None:
            if play.stops and not stopped:
                stopped = True
                device.terminate()
            elif device.status is not None and not stopped:
                return Verdict(Result.FAIL, f"it ended with status {device.status}:\n{device.last_words}")
            if self._stop.is_set():
                raise _InterruptedError
            self._stage.turn(speakers.values(), _TURN)
        wordless = any(speaker.ended and speaker.notified is None for speaker in speakers.values())
        return _perhaps_dead(verdict, device) if wordless and not stopped else verdict

    def _left(self, cast: Iterable[Speaker], device: Device) -> bool:
        """Let everybody but the witnesses go; tell whether all is as it was before the case."""
        cast = list(cast)
        for speaker in cast:
            if speaker.open:
                speaker.say(_GOODBYE)
            speaker.hang_up()
        everybody = [*cast, *self._witnesses.values()]
        deadline = time.monotonic() + _CLEAN
        while time.monotonic() < deadline:
            self._stage.turn(everybody, _TURN)
            if device.status is not None or any(not w.established or w.fault for w in self._witnesses.values()):
                return False
            if not any(speaker.open for speaker in cast) and not any(
                w.hearing.routes for w in self._witnesses.values()
            ):
                return True
        return False

    def _end(self) -> None:
        self._stage.close()
        if self._device is not None:
            self._device.close()
            self._device = None
