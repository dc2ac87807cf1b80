from __future__ import annotations

import pytest

from appliance.model.errors import OperatorError
from routing.interop.cases import chosen, world
from routing.interop.dialects.template import none, template
from routing.interop.world import Knob

WORLD = world(chosen(["sessions/ipv6"]))
TEXT = """router ${asn} ${router_id} $HOME {
%neighbors
 peer ${address} as ${asn} from ${local_address}
%end
%neighbors6
 six ${number} ${name}
%end
}
"""


def test_a_block_is_written_for_each_member() -> None:
    """Of all families, or of one; dollars without braces are the router's own."""
    made = template(TEXT, "my.conf", frozenset({Knob.SHUN}))
    assert made.knobs == {Knob.SHUN}
    assert (
        made.write(WORLD, "/run").files["my.conf"]
        == """router 64500 192.0.2.1 $HOME {
 peer 192.0.2.10 as 65010 from 192.0.2.1
 peer 2001:db8::b as 65011 from 2001:db8::1
 peer 2001:db8::d as 65013 from 2001:db8::1
 six 11 witnesses/w6
 six 13 sessions/ipv6/a
}
"""
    )


def test_a_blank_that_nobody_fills_is_the_user_s_mistake() -> None:
    """Told with those that there are."""
    with pytest.raises(OperatorError, match=r"peer.*there are.*address4"):
        template("${peer}", "x", frozenset()).write(WORLD, "/run")


def test_who_has_a_configuration_already_gets_none() -> None:
    """No file is written."""
    assert none(frozenset()).write(WORLD, "/run").files == {}
