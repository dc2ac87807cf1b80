from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.bgp.notify import Notify, name, printable, received, shutdown


@pytest.mark.parametrize(
    ("code", "subcode", "words"),
    [
        (1, 2, "Message Header Error / Bad Message Length"),
        (2, 0, "OPEN Message Error"),
        (3, 11, "UPDATE Message Error / Malformed AS_PATH"),
        (4, 0, "Hold Timer Expired"),
        (5, 3, "Finite State Machine Error / Receive Unexpected Message in Established State"),
        (6, 10, "Cease / BFD Down"),
        (7, 1, "ROUTE-REFRESH Message Error / Invalid Message Length"),
        (8, 0, "Send Hold Timer Expired"),
        (6, 77, "Cease / subcode 77"),
        (99, 1, "error 99 / subcode 1"),
    ],
)
def test_every_number_has_a_name(code: int, subcode: int, words: str) -> None:
    """The names are those of the registries; what nobody assigned stays a number."""
    assert name(code, subcode) == words
    assert str(Notify(code, subcode)) == words


def test_notifications_are_equal_if_what_is_sent_is_equal() -> None:
    """The text is for people, and the same fault may be told in several ways."""
    assert Notify(6, 2, b"x", "one") == Notify(6, 2, b"x", "another")
    assert hash(Notify(6, 2, b"x", "one")) == hash(Notify(6, 2, b"x", "another"))
    assert Notify(6, 2) != Notify(6, 4)
    assert Notify(6, 2) != (6, 2, b"")


def test_what_the_operator_says_goes_with_a_shutdown() -> None:
    """RFC 9003 2: one octet of length, then UTF-8."""
    notify = shutdown(2, "Umzug: zurück um 5")
    assert notify == Notify(6, 2, b"\x13" + "Umzug: zurück um 5".encode())
    assert notify.text == 'Cease / Administrative Shutdown: "Umzug: zurück um 5"'
    assert received(6, 2, notify.data).text == notify.text


def test_a_communication_that_is_too_long_is_cut_between_characters() -> None:
    """255 octets of UTF-8 at most, and never half of a character."""
    notify = shutdown(4, "x" + "ü" * 200)
    assert notify.data == bytes((255,)) + ("x" + "ü" * 127).encode()
    assert shutdown(4, "ü" * 200).data == bytes((254,)) + ("ü" * 127).encode()


@pytest.mark.parametrize("subcode", [1, 3, 5, 6, 7, 8, 10])
def test_other_reasons_carry_no_communication(subcode: int) -> None:
    """RFC 9003 is about shutdown and reset alone."""
    assert shutdown(subcode, "bye") == Notify(6, subcode)


def test_no_communication_is_no_data() -> None:
    """An empty one says nothing."""
    assert shutdown(2) == Notify(6, 2, b"")


@pytest.mark.parametrize(
    ("code", "subcode", "data", "words"),
    [
        (6, 2, b"\x03abc", 'Cease / Administrative Shutdown: "abc"'),
        (6, 4, b"\x00", 'Cease / Administrative Reset: ""'),
        (6, 2, b"\x05abc", "Cease / Administrative Shutdown: 05616263"),
        (6, 2, b'\x08a\n\x1b[31m"', r'Cease / Administrative Shutdown: "a\x0a\x1b[31m\""'),
        (6, 2, b"\x03a\xff\\", r'Cease / Administrative Shutdown: "a\xff\\"'),
        (6, 2, b"\x03\xe2\x80\xae", r'Cease / Administrative Shutdown: "\u202e"'),
        (6, 1, b"\0\1\1\0\0\0\x64", "Cease / Maximum Number of Prefixes Reached: 100"),
        (6, 1, b"\0\1", "Cease / Maximum Number of Prefixes Reached: 0001"),
        (6, 9, b"\x06\x02\x02hi", 'Cease / Hard Reset: Cease / Administrative Shutdown: "hi"'),
        (6, 9, b"\x06\x09\x06\x09\x06\x09", "Cease / Hard Reset: Cease / Hard Reset"),
        (2, 1, b"\0\3", "OPEN Message Error / Unsupported Version Number: 0003"),
        (3, 0, bytes(64), f"UPDATE Message Error: {'00' * 64}"),
        (3, 0, bytes(65), f"UPDATE Message Error: {'00' * 64}..."),
        (6, 7, b"", "Cease / Connection Collision Resolution"),
    ],
)
def test_what_came_is_told_to_people(code: int, subcode: int, data: bytes, words: str) -> None:
    """Communications as text, a hard reset with what it wraps (RFC 8538), everything else as octets."""
    notify = received(code, subcode, data)
    assert notify.text == words
    assert notify == Notify(code, subcode, data)


@given(st.binary())
def test_a_stranger_writes_nothing_into_the_log_but_visible_characters(octets: bytes) -> None:
    """No line ends, no terminal commands, no reversed text."""
    assert printable(octets).isprintable()


@given(st.text(max_size=80))
def test_any_communication_survives(said: str) -> None:
    """Whatever can be said in 255 octets is said as it is."""
    notify = shutdown(2, said)
    assert notify.data[1:].decode() == said.encode(errors="replace").decode() or len(notify.data) >= 252
