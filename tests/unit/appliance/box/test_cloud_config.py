"""User-data: names, clock, node and intent."""

from __future__ import annotations

import pytest

from tests.support.intents import LAB
from tests.support.seeds import errors, said, seed


@pytest.mark.parametrize(
    ("text", "hostname", "fqdn"),
    [
        ("hostname: a", "a", ""),
        ("hostname: a.example.net", "a", "a.example.net"),
        ("fqdn: a.example.net", "a", "a.example.net"),
        ("hostname: a\nfqdn: b.example.net", "a", "b.example.net"),
    ],
)
def test_hostname_is_short_and_fqdn_is_whole(text: str, hostname: str, fqdn: str) -> None:
    """/etc/hosts gets both."""
    config = seed(text).config
    assert (config.hostname, config.fqdn) == (hostname, fqdn)


@pytest.mark.parametrize("name", ["-a", "a-", "a_b", "a b", "x" * 64, "''", "a..b"])
def test_odd_names_are_refused(name: str) -> None:
    """Each would be another host's trouble."""
    assert "hostname" in said(errors(f"hostname: {name}"))


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("", None),
        ("ntp: {enabled: false, servers: [a.example]}", None),
        ("ntp: {enabled: true}", ()),
        ("ntp: {servers: [192.0.2.1], pools: [p.example]}", ("192.0.2.1", "p.example")),
    ],
)
def test_the_clock_is_set_from_the_network_only_when_that_is_said(text: str, servers: tuple[str, ...] | None) -> None:
    """A box asks no stranger by itself."""
    assert seed(text).config.ntp == servers


@pytest.mark.parametrize("zone", ["../../etc/shadow", "/etc/shadow", "a b", "Europe/"])
def test_a_timezone_is_a_name_and_no_path(zone: str) -> None:
    """It becomes a link."""
    assert "timezone" in said(errors(f"timezone: '{zone}'"))
    assert seed("timezone: Europe/Paris").config.timezone == "Europe/Paris"


def test_the_node_is_the_host_unless_it_is_named() -> None:
    """An intent without node needs a host of that name."""
    text = "edgeway: {intent_file: i}"
    assert seed(text, i=LAB).config.node == "h1"
    assert "no node h9" in errors(f"hostname: h9\n{text}", i=LAB)[0].message


def test_an_intent_may_stand_in_user_data() -> None:
    """Indented below its key."""
    block = "".join(f"    {line}" if line.strip() else line for line in LAB.splitlines(keepends=True))
    assert seed(f"edgeway:\n  node: h1\n  intent: |\n{block}").config.intent.rstrip() == LAB.rstrip()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("edgeway: {node: h1, intent_file: nosuch}", "edgeway.intent_file"),
        ("edgeway: {node: h1, intent_file: ../x}", "edgeway.intent_file"),
        ("edgeway: {node: h1, intent: {nodes: 1}}", "edgeway.intent"),
        ("edgeway: {node: h1, intent: 'a: 1', intent_file: i}", "edgeway.intent"),
        ("edgeway: {node: H1}", "edgeway.node"),
        ("edgeway: 7", "edgeway"),
    ],
)
def test_an_intent_that_cannot_be_had_is_an_error(text: str, path: str) -> None:
    """At its key."""
    assert path in said(errors(text))


def test_findings_of_an_intent_name_its_own_lines() -> None:
    """They come from the checker that `edgeway check` runs."""
    found = errors("edgeway: {node: h1, intent: 'frob: 1'}")
    assert {one.file for one in found} == {"intent"}
    assert (found[0].line, found[0].column) == (1, 1)
