"""What no single key shows: names that must differ or match, what others could reach, secrets that must be readable."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from redis_agent.errors import ConfigurationError
from redis_agent.fleet import DnsName, Fleet, InstanceSection
from redis_agent.fleet_text import KeyPath, Lines
from redis_agent.fleet_types import KEY_LENGTH_AT_LEAST, Section, is_loopback, is_placeholder
from redis_agent.model import HAND_OVER_WITHIN, Mode

_SENDABLE = re.compile(r"[!-~]+")
_NEEDED_SECRETS = ("webhook_url", "routing_key")
_CONFIRM_AT_LEAST_SECONDS = 0.5
_VOTE_SLACK_SECONDS = 0.5


def faults(fleet: Fleet, lines: Lines) -> Iterator[str]:
    """Every fault of the file itself, apart from secrets."""
    yield from _doubled(lines, ("datacenters",), [d.name for d in fleet.datacenters], "name")
    yield from _doubled(lines, ("instances",), [i.id for i in fleet.instances], "id")
    yield from _doubled(lines, ("alerting", "receivers"), [r.name for r in fleet.alerting.receivers], "name")
    records = [i.dns.record if i.dns else None for i in fleet.instances]
    yield from _doubled(lines, ("instances",), records, "dns.record")
    for index, _ in enumerate(fleet.instances):
        yield from _check_instance(fleet, lines, index)
    # A look, the hand-over, the next tick, and how long a reader may not know that there is nothing more to read.
    oldest = 3 * fleet.collector.interval_seconds + HAND_OVER_WITHIN.total_seconds() + _VOTE_SLACK_SECONDS
    if fleet.failover.vote_max_age_seconds < oldest:
        told = f"votes of a healthy fleet may be up to {oldest:g} s old by what is known of them: give at least that"
        yield lines.fault(("failover", "vote_max_age_seconds"), told)
    yield from _check_exposure(fleet, lines)
    yield from _check_addresses(fleet, lines)


def _doubled(lines: Lines, section: KeyPath, values: Sequence[str | None], key: str) -> Iterator[str]:
    for index, value in enumerate(values):
        if value is not None and value in values[:index]:
            yield lines.fault((*section, index, *key.split(".")), f"{value!r} is used twice; each must differ")


def _check_instance(fleet: Fleet, lines: Lines, index: int) -> Iterator[str]:
    instance = fleet.instances[index]
    at: KeyPath = ("instances", index)
    yield from _check_sites(fleet, lines, at, instance)
    if instance.preferred is not None and instance.site(instance.preferred) is None:
        own = ", ".join(site.datacenter for site in instance.sites)
        yield lines.fault((*at, "preferred"), f"{instance.id} has no site in {instance.preferred!r}; it has: {own}")
    mode, quorum = fleet.policy(instance).mode, fleet.policy(instance).quorum
    if instance.dns is not None:
        yield from _check_name(fleet, lines, at, instance, instance.dns)
    elif mode is not Mode.OBSERVE:
        yield lines.fault(at, f"mode {mode.value} needs a dns section: there is no name to move")
    if instance.dns is not None and len(instance.sites) < 2 and mode is not Mode.OBSERVE:
        yield lines.fault((*at, "sites"), f"mode {mode.value} needs a second site to move to")
    confirm = fleet.policy(instance).confirm_seconds
    if mode is Mode.AUTO and confirm < _CONFIRM_AT_LEAST_SECONDS:
        yield lines.fault(
            (*at, "failover"),
            f"confirm_seconds {confirm:g} with mode auto moves traffic at the first bad poll; 3 or more is right",
        )
    if mode is Mode.AUTO and quorum < 2:
        yield lines.fault(
            (*at, "failover"), "quorum 1 with mode auto lets one vantage move traffic; at least 2 is right"
        )


def _check_sites(fleet: Fleet, lines: Lines, at: KeyPath, instance: InstanceSection) -> Iterator[str]:
    known = [d.name for d in fleet.datacenters]
    yield from _doubled(lines, (*at, "sites"), [s.datacenter for s in instance.sites], "datacenter")
    for number, site in enumerate(instance.sites):
        if site.datacenter not in known:
            where = (*at, "sites", number, "datacenter")
            yield lines.fault(where, f"{site.datacenter!r} isn't a datacenter; known: {', '.join(known)}")


def _check_name(fleet: Fleet, lines: Lines, at: KeyPath, instance: InstanceSection, name: DnsName) -> Iterator[str]:
    if name.provider not in fleet.dns:
        known = ", ".join(fleet.dns) or "none"
        yield lines.fault((*at, "dns", "provider"), f"no dns provider {name.provider!r}; known: {known}")
    for number, site in enumerate(instance.sites):
        if not site.dns_value:
            right = f"what {name.record} says when traffic goes to {site.datacenter}"
            yield lines.fault((*at, "sites", number, "dns_value"), f"is missing; it is {right}")


def _check_exposure(fleet: Fleet, lines: Lines) -> Iterator[str]:
    api, grpc = fleet.api, fleet.grpc
    if api.enabled and not api.gives("api_key") and not is_loopback(api.host):
        yield lines.fault(("api", "api_key_file"), f"is missing: the API on {api.host} needs a key")
    proves_clients = grpc.tls is not None and grpc.tls.client_ca_file is not None
    if not proves_clients and not grpc.gives("api_key") and not is_loopback(grpc.host):
        right = "give grpc.api_key_file, or grpc.tls with client_ca_file"
        yield lines.fault(("grpc", "host"), f"{grpc.host} is reachable by others, and orders need no proof: {right}")


def _check_addresses(fleet: Fleet, lines: Lines) -> Iterator[str]:
    for service, address in fleet.grpc.addresses.items():
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            yield lines.fault(("grpc", "addresses", service), f"{address!r} must be host:port")
    owners: dict[str, str] = {}
    for service in ("collector", "detector", "controller", "notifier"):
        address = fleet.grpc.address(service)
        if owners.setdefault(address, service) != service:
            yield lines.fault(("grpc", "ports", service), f"{address} is {owners[address]}'s, too; each must differ")


# --- secrets and other files ------------------------------------------------------------------------------------


def unreadable(fleet: Fleet, lines: Lines, sections: tuple[str, ...] | None) -> Iterator[str]:
    """Secrets that aren't there or can't be right, and files that can't be read, in `sections` (None: in all).

    Environment variables that aren't set are left to `unset`.
    """
    for at, section in _sections((), fleet):
        if sections is not None and at and at[0] not in sections:
            continue
        secrets = section.secret_fields()
        for name in secrets:
            yield from _check_secret(section, lines, at, name)
        for name in type(section).model_fields:
            path = getattr(section, name)
            if name.endswith("_file") and path is not None and name.removesuffix("_file") not in secrets:
                yield from _check_file(lines, (*at, name), path)


def unset(fleet: Fleet, lines: Lines, sections: tuple[str, ...] | None = None) -> Iterator[str]:
    """Secrets that an environment variable holds, which isn't set here."""
    for at, section in _sections((), fleet):
        if sections is not None and at and at[0] not in sections:
            continue
        for name in section.secret_fields():
            variable = getattr(section, f"{name}_env")
            if variable is not None and variable not in os.environ:
                yield lines.fault((*at, f"{name}_env"), f"the environment variable {variable} isn't set here")


def _check_secret(section: Section, lines: Lines, at: KeyPath, name: str) -> Iterator[str]:
    given = section.gives(name)
    if given is None:
        if name in _NEEDED_SECRETS:
            yield lines.fault((*at, name), f"is missing: give {name}_file, {name}_env or {name}")
        return
    if given.endswith("_env") and getattr(section, given) not in os.environ:
        return
    try:
        value = section.reveal(name) or ""
    except ConfigurationError as fault:
        _, _, text = fault.faults[0].partition(": ")
        yield lines.fault((*at, given), f"{text}; name a file that this user can read")
        return
    if name == "api_key" and (wrong := _wrong_key(value)):
        right = f"use at least {KEY_LENGTH_AT_LEAST} random characters, e.g. from: openssl rand -hex 24"
        yield lines.fault((*at, given), f"{wrong}; {right}")
    elif name not in ("api_key", "password") and (not value or is_placeholder(value)):
        yield lines.fault((*at, given), "is empty or a placeholder; give the real one")


def _wrong_key(value: str) -> str | None:
    if is_placeholder(value) or len(value) < KEY_LENGTH_AT_LEAST:
        return "is empty, short or a placeholder"
    if not _SENDABLE.fullmatch(value):
        return "holds blanks or letters that a header can't carry"
    return None


def _check_file(lines: Lines, at: KeyPath, path: Path) -> Iterator[str]:
    try:
        with path.open("rb"):
            pass
    except OSError as fault:
        yield lines.fault(at, f"{path.absolute()} can't be read: {fault.strerror}; name a file that this user can read")


def _sections(at: KeyPath, value: object) -> Iterator[tuple[KeyPath, Section]]:
    if isinstance(value, Section):
        yield at, value
        for name in type(value).model_fields:
            yield from _sections((*at, name), getattr(value, name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _sections((*at, key), item)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _sections((*at, index), item)
