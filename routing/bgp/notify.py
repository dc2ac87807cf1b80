"""What ends a session: the fault as an exception, the names of its numbers, and its words for the log.

Raised by the codecs of this package, sent and read by `routing.bgp.messages`. Error codes of RFC 4271 4.5, with the
subcodes of RFC 4486, 5492, 6608, 7313, 8538, 9234, 9384 and 9687; the shutdown communication of RFC 9003.
"""

from __future__ import annotations

MESSAGE_HEADER_ERROR = 1
OPEN_ERROR = 2
UPDATE_ERROR = 3
HOLD_TIMER_EXPIRED = 4
FSM_ERROR = 5
CEASE = 6
REFRESH_ERROR = 7
SEND_HOLD_TIMER_EXPIRED = 8

MAX_PREFIXES = 1
ADMINISTRATIVE_SHUTDOWN = 2
ADMINISTRATIVE_RESET = 4
HARD_RESET = 9

#: RFC 9003 2: its length is one octet.
LONGEST_COMMUNICATION = 255

_SHOWN = 64  # octets of data in a log line

_CODES = {
    MESSAGE_HEADER_ERROR: "Message Header Error",
    OPEN_ERROR: "OPEN Message Error",
    UPDATE_ERROR: "UPDATE Message Error",
    HOLD_TIMER_EXPIRED: "Hold Timer Expired",
    FSM_ERROR: "Finite State Machine Error",
    CEASE: "Cease",
    REFRESH_ERROR: "ROUTE-REFRESH Message Error",
    SEND_HOLD_TIMER_EXPIRED: "Send Hold Timer Expired",
}
_SUBCODES = {
    (MESSAGE_HEADER_ERROR, 1): "Connection Not Synchronized",
    (MESSAGE_HEADER_ERROR, 2): "Bad Message Length",
    (MESSAGE_HEADER_ERROR, 3): "Bad Message Type",
    (OPEN_ERROR, 1): "Unsupported Version Number",
    (OPEN_ERROR, 2): "Bad Peer AS",
    (OPEN_ERROR, 3): "Bad BGP Identifier",
    (OPEN_ERROR, 4): "Unsupported Optional Parameter",
    (OPEN_ERROR, 5): "Authentication Failure",
    (OPEN_ERROR, 6): "Unacceptable Hold Time",
    (OPEN_ERROR, 7): "Unsupported Capability",
    (OPEN_ERROR, 11): "Role Mismatch",
    (UPDATE_ERROR, 1): "Malformed Attribute List",
    (UPDATE_ERROR, 2): "Unrecognized Well-known Attribute",
    (UPDATE_ERROR, 3): "Missing Well-known Attribute",
    (UPDATE_ERROR, 4): "Attribute Flags Error",
    (UPDATE_ERROR, 5): "Attribute Length Error",
    (UPDATE_ERROR, 6): "Invalid ORIGIN Attribute",
    (UPDATE_ERROR, 7): "AS Routing Loop",
    (UPDATE_ERROR, 8): "Invalid NEXT_HOP Attribute",
    (UPDATE_ERROR, 9): "Optional Attribute Error",
    (UPDATE_ERROR, 10): "Invalid Network Field",
    (UPDATE_ERROR, 11): "Malformed AS_PATH",
    (FSM_ERROR, 1): "Receive Unexpected Message in OpenSent State",
    (FSM_ERROR, 2): "Receive Unexpected Message in OpenConfirm State",
    (FSM_ERROR, 3): "Receive Unexpected Message in Established State",
    (CEASE, MAX_PREFIXES): "Maximum Number of Prefixes Reached",
    (CEASE, ADMINISTRATIVE_SHUTDOWN): "Administrative Shutdown",
    (CEASE, 3): "Peer De-configured",
    (CEASE, ADMINISTRATIVE_RESET): "Administrative Reset",
    (CEASE, 5): "Connection Rejected",
    (CEASE, 6): "Other Configuration Change",
    (CEASE, 7): "Connection Collision Resolution",
    (CEASE, 8): "Out of Resources",
    (CEASE, HARD_RESET): "Hard Reset",
    (CEASE, 10): "BFD Down",
    (REFRESH_ERROR, 1): "Invalid Message Length",
}


class Notify(Exception):  # noqa: N818 - the fault may be ours or nobody's: Cease is no error
    """The session must end: what the NOTIFICATION says (code, subcode, data) and what the log says (text)."""

    def __init__(self, code: int, subcode: int = 0, data: bytes = b"", text: str = "") -> None:
        """Without a text of its own it is named after its numbers."""
        super().__init__(code, subcode, data, text)
        self.code = code
        self.subcode = subcode
        self.data = data
        self.text = text or name(code, subcode)

    def __str__(self) -> str:
        """Say it as the log does."""
        return self.text

    def __eq__(self, other: object) -> bool:
        """Compare what is sent; the words are for people."""
        if not isinstance(other, Notify):
            return NotImplemented
        return (self.code, self.subcode, self.data) == (other.code, other.subcode, other.data)

    def __hash__(self) -> int:
        """Agree with equality."""
        return hash((self.code, self.subcode, self.data))


def name(code: int, subcode: int) -> str:
    """Name an error code and its subcode; numbers that nobody assigned stay numbers."""
    first = _CODES.get(code, f"error {code}")
    if not subcode:  # RFC 4271 4.5: zero is "unspecific"
        return first
    return f"{first} / {_SUBCODES.get((code, subcode), f'subcode {subcode}')}"


def received(code: int, subcode: int, data: bytes) -> Notify:
    """Make a NOTIFICATION that came in presentable."""
    return Notify(code, subcode, data, f"{name(code, subcode)}{_more(code, subcode, data)}")


def shutdown(subcode: int, communication: str = "") -> Notify:
    """Cease; with Administrative Shutdown and Reset goes what the operator says (RFC 9003), cut at a character."""
    text = name(CEASE, subcode)
    if not communication or subcode not in (ADMINISTRATIVE_SHUTDOWN, ADMINISTRATIVE_RESET):
        return Notify(CEASE, subcode, b"", text)
    said = communication.encode(errors="replace")[:LONGEST_COMMUNICATION].decode(errors="ignore").encode()
    return Notify(CEASE, subcode, bytes((len(said),)) + said, f'{text}: "{printable(said)}"')


def printable(octets: bytes) -> str:
    """Make the text of a stranger safe for a log line: UTF-8, everything that is not plainly visible escaped."""
    text = octets.decode(errors="surrogateescape")
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    if character in '\\"':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    # The error handler puts an octet that is no UTF-8 at U+DC80 and up.
    return f"\\x{code & 0xFF:02x}" if code <= 0xFF or 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"  # noqa: PLR2004


def _more(code: int, subcode: int, data: bytes) -> str:
    if not data:
        return ""
    if code == CEASE and subcode in (ADMINISTRATIVE_SHUTDOWN, ADMINISTRATIVE_RESET):
        return f': "{printable(data[1 : 1 + data[0]])}"' if data[0] < len(data) else f": {_hex(data)}"
    if code == CEASE and subcode == HARD_RESET and len(data) > 1:  # RFC 8538 3.1: the data is a NOTIFICATION
        # Once: what is nested within what is nested is for nobody.
        return f": {name(data[0], data[1])}" + (_more(data[0], data[1], data[2:]) if data[1] != HARD_RESET else "")
    if code == CEASE and subcode == MAX_PREFIXES and len(data) == 7:  # noqa: PLR2004 - AFI, SAFI, bound: RFC 4486 4
        return f": {int.from_bytes(data[3:], 'big')}"
    return f": {_hex(data)}"


def _hex(data: bytes) -> str:
    return data[:_SHOWN].hex() + ("..." if len(data) > _SHOWN else "")
