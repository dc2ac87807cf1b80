from __future__ import annotations

import pytest

from appliance.model.errors import OperatorError
from routing.interop import script
from routing.interop.cases import ALL, chosen, world
from routing.interop.script import W6, Case, Connect, Stop, Up, W, join
from routing.interop.world import Knob, Part


def test_joining_is_connecting_all_and_then_waiting_for_all() -> None:
    """So that they come up together."""
    assert [type(act) for act in join("a", "b")] == [Connect, Connect, Up, Up]


def test_a_case_knows_its_group_and_what_it_needs() -> None:
    """From its name and its cast."""
    case = Case("g/one", "RFC 1", "text", (Stop(),), {"a": Part(no_policy=True), "b": Part(shuns="a")})
    assert (case.group, case.stops, case.knobs) == ("g", True, frozenset({Knob.NO_POLICY, Knob.SHUN}))


@pytest.mark.parametrize("case", ALL, ids=[case.name for case in ALL])
def test_every_act_is_about_somebody_who_is_there(case: Case) -> None:
    """A part, a second connection of one, or a witness."""
    known = {W, W6, *case.cast, *case.twins}
    assert {who for act in case.acts if (who := getattr(act, "who", None))} <= known
    assert {part.shuns for part in case.cast.values()} <= {"", *case.cast}
    assert case.rfc.startswith("RFC ")


def test_names_are_unique_and_the_device_ends_last() -> None:
    """Nothing can be asked of it afterwards."""
    assert len({case.name for case in ALL}) == len(ALL)
    assert [case.name for case in ALL if case.stops] == [ALL[-1].name]


def test_cases_are_chosen_by_group_or_name() -> None:
    """All of them if nothing is named; what does not exist is the user's mistake."""
    assert {case.group for case in chosen(["errors"])} == {"errors"}
    assert [case.name for case in chosen(["routes/many"])] == ["routes/many"]
    assert chosen([]) == ALL
    with pytest.raises(OperatorError, match="no case or group errros"):
        chosen(["errros"])


def test_the_world_of_some_cases_is_a_part_of_the_whole() -> None:
    """The witnesses are always there."""
    some = world(chosen(["routes/withdraw"]))
    assert [member.name for member in some.members] == ["witnesses/w", "witnesses/w6", "routes/withdraw/a"]
    assert set(some.members) <= set(world().members)


def test_every_act_has_a_name_in_the_union() -> None:
    """The player asks for no other."""
    assert {Connect, Up, Stop} <= set(script.Act.__args__)
