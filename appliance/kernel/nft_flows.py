"""Flow records in our nft table as nfnetlink messages: instructions, stamps and words, written and read bit by bit.

Pure. `nft_engines` decides what to send, `nft` sends it. Why not libnftables: its transactions cost what the table holds,
and nft 1.0.6 does not keep the types of the maps of instructions, so that it lists their keys in wrong words. Numbers:
include/uapi/linux/netfilter/nf_tables.h and nfnetlink.h; what is written follows design 0004.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from appliance.kernel.netlink import Attributes, Message, attribute, be32, nest, parse, text, to_text
from appliance.model.facts import Address, FlowKey
from appliance.model.marks import (
    ACTION_SHIFT,
    DISPATCH,
    ENGINE_SHIFT,
    GENERATION_MASK,
    GENERATION_SHIFT,
    INSTRUCTIONS,
    NFT_TABLE,
    VERDICTS,
    engine_chain,
)

NFPROTO_INET: Final = 1
SUBSYSTEM: Final = 10
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFNL_BATCH_GENID = 0x10, 0x11, 1
NFT_MSG_NEWRULE, NFT_MSG_GETRULE, NFT_MSG_DELRULE = 10 << 8 | 6, 10 << 8 | 7, 10 << 8 | 8
NFT_MSG_NEWSETELEM, NFT_MSG_GETSETELEM, NFT_MSG_DELSETELEM = 10 << 8 | 12, 10 << 8 | 13, 10 << 8 | 14
NFT_MSG_GETOBJ: Final = 10 << 8 | 19
NLM_F_CREATE, NLM_F_APPEND, NLM_F_EXCL = 0x400, 0x800, 0x200
NFTA_LIST_ELEM: Final = 1
NFTA_RULE_TABLE, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_USERDATA = 1, 2, 4, 7
NFTA_EXPR_NAME, NFTA_EXPR_DATA = 1, 2
NFTA_META_DREG, NFTA_META_KEY, NFT_META_MARK = 1, 2, 3
NFTA_CT_KEY, NFTA_CT_SREG, NFT_CT_MARK = 2, 4, 3
NFTA_BITWISE_SREG, NFTA_BITWISE_DREG, NFTA_BITWISE_LEN, NFTA_BITWISE_MASK, NFTA_BITWISE_XOR = 1, 2, 3, 4, 5
NFTA_IMMEDIATE_DREG, NFTA_IMMEDIATE_DATA = 1, 2
NFTA_DATA_VALUE, NFTA_DATA_VERDICT = 1, 2
NFTA_VERDICT_CODE, NFTA_VERDICT_CHAIN = 1, 2
NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_ELEMENTS = 1, 2, 3
NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_DATA = 1, 2
NFTA_OBJ_TABLE, NFTA_OBJ_NAME, NFTA_OBJ_TYPE, NFTA_OBJ_DATA, NFT_OBJECT_COUNTER = 1, 2, 3, 4, 1
NFTA_COUNTER_BYTES, NFTA_COUNTER_PACKETS = 1, 2
NFT_REG_VERDICT, NFT_REG_1 = 0, 1
NFTNL_UDATA_RULE_COMMENT: Final = 0
_CODES: Final = {"drop": 0, "accept": 1, "goto": -4 & 0xFFFF_FFFF}
_HEADER: Final = struct.pack("=BBH", NFPROTO_INET, 0, 0)
#: What a stamp keeps of the packet mark: the decision, without the bit that says it was made.
DECISION: Final = 0x0000_0FFF
#: A key: zone, in host order, then source, its port, destination, its port and protocol, each on 32 bits.
_KEYS: Final = {4: struct.Struct("=Hxx4s2sxx4s2sxxBxxx"), 6: struct.Struct("=Hxx16s2sxx16s2sxxBxxx")}
_WORD: Final = struct.Struct("=I")
#: Where the values are that tell expressions of one name apart.
_LEAVES: Final = {
    "meta": ((NFTA_META_DREG,), (NFTA_META_KEY,)),
    "bitwise": ((NFTA_BITWISE_LEN,), (NFTA_BITWISE_MASK, NFTA_DATA_VALUE), (NFTA_BITWISE_XOR, NFTA_DATA_VALUE)),
    "ct": ((NFTA_CT_KEY,), (NFTA_CT_SREG,)),
    "immediate": (
        (NFTA_IMMEDIATE_DREG,),
        (NFTA_IMMEDIATE_DATA, NFTA_DATA_VERDICT, NFTA_VERDICT_CODE),
        (NFTA_IMMEDIATE_DATA, NFTA_DATA_VERDICT, NFTA_VERDICT_CHAIN),
    ),
}


@dataclass(frozen=True, slots=True)
class Stamp:
    """What stands in the chain of an engine: the generation, and the digest of the policy ("" of an engine that is gone)."""

    generation: int
    policy: str


def base(engine: int, generation: int) -> int:
    """Return the part of a mark that a stamp sets."""
    return generation << GENERATION_SHIFT | engine << ENGINE_SHIFT


def begin(generation: int) -> Message:
    """Begin a transaction that the kernel refuses (ERESTART) if the ruleset is of another generation."""
    return Message(NFNL_MSG_BATCH_BEGIN, struct.pack(">BBH", 0, 0, SUBSYSTEM) + be32(NFNL_BATCH_GENID, generation))


def end() -> Message:
    """End a transaction."""
    return Message(NFNL_MSG_BATCH_END, struct.pack(">BBH", 0, 0, SUBSYSTEM))


def stamp(engine: int, to: Stamp) -> list[Message]:
    """Have the chain of an engine hold nothing but this stamp."""
    chain = text(NFTA_RULE_TABLE, NFT_TABLE) + text(NFTA_RULE_CHAIN, engine_chain(engine))
    comment = to.policy.encode() + b"\0"
    userdata = bytes([NFTNL_UDATA_RULE_COMMENT, len(comment)]) + comment
    rules = (
        nest(NFTA_RULE_EXPRESSIONS, *_stamp(base(engine, to.generation))) + attribute(NFTA_RULE_USERDATA, userdata),
        nest(NFTA_RULE_EXPRESSIONS, _goto("act")),
    )
    return [
        Message(NFT_MSG_DELRULE, _HEADER + chain),
        *(Message(NFT_MSG_NEWRULE, _HEADER + chain + rule, NLM_F_CREATE | NLM_F_APPEND) for rule in rules),
    ]


def _stamp(word: int) -> Iterator[bytes]:
    """Yield what nft makes of `ct mark set meta mark and 0x00000fff or WORD`."""
    yield _expression("meta", be32(NFTA_META_DREG, NFT_REG_1), be32(NFTA_META_KEY, NFT_META_MARK))
    yield _expression(
        "bitwise",
        be32(NFTA_BITWISE_SREG, NFT_REG_1),
        be32(NFTA_BITWISE_DREG, NFT_REG_1),
        be32(NFTA_BITWISE_LEN, 4),
        nest(NFTA_BITWISE_MASK, attribute(NFTA_DATA_VALUE, _WORD.pack(DECISION))),
        nest(NFTA_BITWISE_XOR, attribute(NFTA_DATA_VALUE, _WORD.pack(word))),
    )
    yield _expression("ct", be32(NFTA_CT_KEY, NFT_CT_MARK), be32(NFTA_CT_SREG, NFT_REG_1))


def _goto(chain: str) -> bytes:
    """Return what nft makes of `goto CHAIN`."""
    return _expression(
        "immediate",
        be32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT),
        nest(NFTA_IMMEDIATE_DATA, _verdict(f"goto {chain}")),
    )


def _expression(name: str, *parts: bytes) -> bytes:
    """Encode one expression of a rule."""
    return nest(NFTA_LIST_ELEM, text(NFTA_EXPR_NAME, name), nest(NFTA_EXPR_DATA, *parts))


def _verdict(words: str) -> bytes:
    """Encode a verdict as nft writes it."""
    code, _, chain = words.partition(" ")
    return nest(
        NFTA_DATA_VERDICT,
        be32(NFTA_VERDICT_CODE, _CODES[code]),
        *([text(NFTA_VERDICT_CHAIN, chain)] if chain else []),
    )


def words_of(engine: int, generation: int) -> dict[int, str]:
    """Return what the dispatch map holds for an engine: six words and what is done with each."""
    return {base(engine, generation) | action << ACTION_SHIFT: verdict for action, verdict in VERDICTS.items()}


def dispatch(words: Mapping[int, str]) -> Message:
    """Put words into the dispatch map."""
    return _elements(
        NFT_MSG_NEWSETELEM,
        DISPATCH,
        [_key(_WORD.pack(word)) + nest(NFTA_SET_ELEM_DATA, _verdict(verdict)) for word, verdict in words.items()],
    )


def undispatch(words: Iterable[int]) -> Message:
    """Take words out of the dispatch map."""
    return _elements(NFT_MSG_DELSETELEM, DISPATCH, [_key(_WORD.pack(word)) for word in words])


def instruct(flow: FlowKey, word: int) -> Message:
    """Add the row of a flow."""
    data = nest(NFTA_SET_ELEM_DATA, attribute(NFTA_DATA_VALUE, _WORD.pack(word)))
    return _elements(NFT_MSG_NEWSETELEM, INSTRUCTIONS[flow.source.version], [_key(pack(flow)) + data])


def uninstruct(flow: FlowKey) -> Message:
    """Delete the row of a flow."""
    return _elements(NFT_MSG_DELSETELEM, INSTRUCTIONS[flow.source.version], [_key(pack(flow))])


def _key(key: bytes) -> bytes:
    """Encode the key of an element."""
    return nest(NFTA_SET_ELEM_KEY, attribute(NFTA_DATA_VALUE, key))


def _elements(kind: int, name: str, elements: list[bytes]) -> Message:
    """Encode elements to add or to delete."""
    body = text(NFTA_SET_ELEM_LIST_TABLE, NFT_TABLE) + text(NFTA_SET_ELEM_LIST_SET, name)
    body += nest(NFTA_SET_ELEM_LIST_ELEMENTS, *(nest(NFTA_LIST_ELEM, element) for element in elements))
    flags = NLM_F_CREATE | NLM_F_EXCL if kind == NFT_MSG_NEWSETELEM else 0
    return Message(kind, _HEADER + body, flags)


def pack(flow: FlowKey) -> bytes:
    """Lay a flow out as the registers hold it when the map is looked up."""
    return _KEYS[flow.source.version].pack(
        flow.zone,
        flow.source.packed,
        flow.source_port.to_bytes(2, "big"),
        flow.destination.packed,
        flow.destination_port.to_bytes(2, "big"),
        flow.protocol,
    )


def unpack(version: int, key: memoryview) -> FlowKey:
    """Read a key."""
    zone, source, sport, destination, dport, protocol = _KEYS[version].unpack(key)
    return FlowKey(
        _address(source),
        int.from_bytes(sport, "big"),
        _address(destination),
        int.from_bytes(dport, "big"),
        protocol,
        zone,
    )


def _address(packed: bytes) -> Address:
    """Read an address by its length."""
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)  # noqa: PLR2004 - octets


def get_rows(version: int) -> Message:
    """Ask for all instructions of an address family."""
    name = INSTRUCTIONS[version]
    body = text(NFTA_SET_ELEM_LIST_TABLE, NFT_TABLE) + text(NFTA_SET_ELEM_LIST_SET, name)
    return Message(NFT_MSG_GETSETELEM, _HEADER + body)


def rows(version: int, payload: memoryview) -> Iterator[tuple[FlowKey, int]]:
    """Yield the instructions of one datagram of the answer."""
    found = parse(payload[4:])
    for element in _list(found.get(NFTA_SET_ELEM_LIST_ELEMENTS, memoryview(b""))):
        parts = parse(element)
        key = parse(parts[NFTA_SET_ELEM_KEY])[NFTA_DATA_VALUE]
        word = parse(parts[NFTA_SET_ELEM_DATA])[NFTA_DATA_VALUE]
        yield unpack(version, key), _WORD.unpack(word)[0]


def _list(buffer: memoryview) -> Iterator[memoryview]:
    """Yield the elements of a list, whose attributes are all of one kind."""
    offset = 0
    while offset + 4 <= len(buffer):
        length = struct.unpack_from("=H", buffer, offset)[0]
        yield buffer[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def get_rules(engine: int) -> Message:
    """Ask for the rules of the chain of an engine."""
    chain = text(NFTA_RULE_TABLE, NFT_TABLE) + text(NFTA_RULE_CHAIN, engine_chain(engine))
    return Message(NFT_MSG_GETRULE, _HEADER + chain)


def stamped(engine: int, payloads: Sequence[memoryview]) -> Stamp | None:
    """Read the stamp out of the rules of a chain; None if they are not exactly what `stamp` writes."""
    found = [parse(payload[4:]) for payload in payloads]
    said = [[_said(one) for one in _list(rule[NFTA_RULE_EXPRESSIONS])] for rule in found]
    if not said or len(said[0]) != 3 or NFTA_RULE_USERDATA not in found[0]:  # noqa: PLR2004 - what a stamp is made of
        return None
    word = int.from_bytes(said[0][1][-1], sys.byteorder)
    if said != [[_said(memoryview(one)[4:]) for one in rule] for rule in (tuple(_stamp(word)), (_goto("act"),))]:
        return None
    generation, rest = word >> GENERATION_SHIFT, word & ~GENERATION_MASK
    if not generation or rest != engine << ENGINE_SHIFT:
        return None
    return Stamp(generation, bytes(found[0][NFTA_RULE_USERDATA][2:-1]).decode(errors="replace"))


def _said(expression: memoryview) -> tuple[bytes, ...]:
    """Return what an expression of a stamp says, whoever encoded it; of another only its name."""
    parts = parse(expression)
    name, data = to_text(parts[NFTA_EXPR_NAME]), parse(parts[NFTA_EXPR_DATA])
    return (name.encode(), *(bytes(_leaf(data, path)) for path in _LEAVES.get(name, ())))


def _leaf(attributes: Attributes, path: tuple[int, ...]) -> memoryview:
    """Return the value at a path of nested attributes; nothing if there is none."""
    value = attributes.get(path[0], memoryview(b""))
    return value if len(path) == 1 else _leaf(parse(value), path[1:])


def get_counters() -> Message:
    """Ask for the named counters of our table."""
    return Message(NFT_MSG_GETOBJ, _HEADER + text(NFTA_OBJ_TABLE, NFT_TABLE) + be32(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER))


def counter(payload: memoryview) -> tuple[str, tuple[int, int]]:
    """Read one counter: its name, packets and bytes."""
    found = parse(payload[4:])
    data = parse(found[NFTA_OBJ_DATA])
    packets, octets = (int.from_bytes(data[kind], "big") for kind in (NFTA_COUNTER_PACKETS, NFTA_COUNTER_BYTES))
    return to_text(found[NFTA_OBJ_NAME]), (packets, octets)
