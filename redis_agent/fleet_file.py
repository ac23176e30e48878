"""Reading the fleet's file: every fault at once, each with its key, its line and what would be right."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from redis_agent.errors import ConfigurationError
from redis_agent.fleet import KEY_LENGTH_AT_LEAST, Fleet, Section, is_placeholder

Path_ = tuple[str | int, ...]
_PREFIX = "REDIS_AGENT__"
_LOOPBACK = ("127.", "::1", "localhost")


class Lines:
    """Which line of the file each key stands on."""

    def __init__(self, name: str, root: yaml.Node | None) -> None:
        self.name = name
        self._lines: dict[Path_, int] = {}
        if root is not None:
            self._walk((), root)

    def _walk(self, at: Path_, node: yaml.Node) -> None:
        self._lines.setdefault(at, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                self._lines[(*at, key.value)] = key.start_mark.line + 1
                self._walk((*at, key.value), value)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._walk((*at, index), value)

    def fault(self, at: Path_, text: str) -> str:
        """One line that names file, line, key and fault."""
        where = at
        while where and where not in self._lines:
            where = where[:-1]
        line = self._lines.get(where, 1)
        return f"{self.name}:{line}: {_dotted(at) or 'the file'}: {text}"


def _dotted(at: Path_) -> str:
    text = ""
    for part in at:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def load(path: Path, environ: Mapping[str, str] = os.environ, sections: tuple[str, ...] | None = None) -> Fleet:
    """Read, override from the environment, validate and cross-check the file.

    `sections` names the parts whose secrets must be readable (None: all). Raises ConfigurationError with every fault.
    """
    data, lines = _read(path)
    _override(data, environ)
    try:
        fleet = Fleet.model_validate(data)
    except ValidationError as fault:
        errors = fault.errors()
        # An item that is wrong also makes its list short: that follows, and isn't said.
        inner = {error["loc"][:1] for error in errors if len(error["loc"]) > 1}
        told = [e for e in errors if not (e["type"] == "too_short" and e["loc"] in inner)]
        raise ConfigurationError([_said(lines, error) for error in told]) from None
    if faults := [*_cross_check(fleet, lines), *_secrets(fleet, lines, sections)]:
        raise ConfigurationError(faults)
    return fleet


def _read(path: Path) -> tuple[dict[str, Any], Lines]:
    try:
        text = path.read_text()
    except OSError as fault:
        raise ConfigurationError([f"{path}: can't be read: {fault.strerror}"]) from fault
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except json.JSONDecodeError as fault:
        raise ConfigurationError([f"{path}:{fault.lineno}: not JSON: {fault.msg}"]) from fault
    except yaml.YAMLError as fault:
        mark = getattr(fault, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        raise ConfigurationError([f"{path}:{line}: not YAML: {getattr(fault, 'problem', fault)}"]) from fault
    if not isinstance(data, dict):
        raise ConfigurationError([f"{path}:1: must be a mapping of sections: log, datacenters, instances, …"])
    if node is not None and (twice := _doubles(node)):
        raise ConfigurationError([f"{path}:{line}: {key}: given twice; keep one" for key, line in twice])
    return data, Lines(str(path), node)


def _doubles(node: yaml.Node) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                found.append((key.value, key.start_mark.line + 1))
            seen.add(key.value)
            found += _doubles(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            found += _doubles(value)
    return found


def _override(data: dict[str, Any], environ: Mapping[str, str]) -> None:
    """`REDIS_AGENT__COLLECTOR__VANTAGE=dc-west` over `collector.vantage`; values are YAML scalars."""
    for name, value in sorted(environ.items()):
        if not name.startswith(_PREFIX):
            continue
        *parents, last = name.removeprefix(_PREFIX).lower().split("__")
        here = data
        for parent in parents:
            here = here.setdefault(parent, {})
            if not isinstance(here, dict):
                raise ConfigurationError([f"{name}: {parent} isn't a section that can be overridden"])
        here[last] = yaml.safe_load(value)


def _said(lines: Lines, error: ErrorDetails) -> str:
    at = tuple(error["loc"])
    kind, message = error["type"], error["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        return lines.fault(at, f"unknown key; known here: {', '.join(_known(at[:-1]))}")
    if kind == "missing":
        return lines.fault(at, "is missing")
    if "secret" in kind or _is_secret(at):
        return lines.fault(at, message)
    given = error.get("input")
    shown = f" (got {given!r})" if isinstance(given, str | int | float | bool) else ""
    return lines.fault(at, f"{message}{shown}")


def _is_secret(at: Path_) -> bool:
    return any(isinstance(part, str) and part.endswith(("password", "key", "webhook_url")) for part in at)


def _known(at: Path_) -> list[str]:
    """The keys of the section at that place, by walking the schema."""
    schema = Fleet.model_json_schema()
    here: dict[str, Any] = schema
    for part in at:
        here = _resolved(schema, here)
        if isinstance(part, int):
            here = here.get("items", here)
        else:
            here = here.get("properties", {}).get(part) or here.get("additionalProperties") or {}
    return sorted(_resolved(schema, here).get("properties", {}))


def _resolved(schema: dict[str, Any], here: dict[str, Any]) -> dict[str, Any]:
    for option in here.get("anyOf", ()):
        if "$ref" in option:
            here = option
    if "$ref" in here:
        found: dict[str, Any] = schema["$defs"][here["$ref"].rsplit("/", 1)[-1]]
        return found
    return here


def _cross_check(fleet: Fleet, lines: Lines) -> Iterator[str]:
    yield from _doubled(lines, "datacenters", [d.name for d in fleet.datacenters], "name")
    yield from _doubled(lines, "instances", [i.id for i in fleet.instances], "id")
    yield from _doubled(lines, "alerting.receivers", [r.name for r in fleet.alerting.receivers], "name")
    records = [i.dns.record if i.dns else f"\0{i.id}" for i in fleet.instances]
    yield from _doubled(lines, "instances", records, "dns.record")
    for index, _ in enumerate(fleet.instances):
        yield from _check_instance(fleet, lines, index)
    yield from _check_exposure(fleet, lines)


def _doubled(lines: Lines, section: str, values: list[str], key: str) -> Iterator[str]:
    for index, value in enumerate(values):
        if value in values[:index]:
            at: Path_ = (*_parts(section), index, *key.split("."))
            yield lines.fault(at, f"{value!r} is used twice; each must differ")


def _parts(dotted: str) -> Path_:
    return tuple(int(part) if part.isdigit() else part for part in dotted.split("."))


def _check_instance(fleet: Fleet, lines: Lines, index: int) -> Iterator[str]:
    instance = fleet.instances[index]
    at: Path_ = ("instances", index)
    known = [d.name for d in fleet.datacenters]
    yield from _doubled(lines, f"instances.{index}.sites", [s.datacenter for s in instance.sites], "datacenter")
    for number, site in enumerate(instance.sites):
        if site.datacenter not in known:
            where = (*at, "sites", number, "datacenter")
            yield lines.fault(where, f"{site.datacenter!r} isn't a datacenter; known: {', '.join(known)}")
    if instance.preferred is not None and instance.site(instance.preferred) is None:
        yield lines.fault((*at, "preferred"), f"{instance.id} has no site in {instance.preferred!r}")
    policy = fleet.policy(instance)
    if instance.dns is None:
        if policy.mode.value != "observe":
            yield lines.fault(at, f"mode {policy.mode.value} needs a dns section: there is no name to move")
        return
    if instance.dns.provider not in fleet.dns:
        known_dns = ", ".join(fleet.dns) or "none"
        yield lines.fault((*at, "dns", "provider"), f"no dns provider {instance.dns.provider!r}; known: {known_dns}")
    if len(instance.sites) < 2 and policy.mode.value != "observe":
        yield lines.fault((*at, "sites"), f"mode {policy.mode.value} needs a second site to move to")
    if policy.mode.value == "auto" and policy.quorum < 2:
        yield lines.fault(
            (*at, "failover"), "quorum 1 with mode auto lets one vantage move traffic; at least 2 is right"
        )


def _check_exposure(fleet: Fleet, lines: Lines) -> Iterator[str]:
    api, grpc = fleet.api, fleet.grpc
    unset = api.api_key is None and api.api_key_file is None and api.api_key_env is None
    if api.enabled and unset and not api.host.startswith(_LOOPBACK):
        yield lines.fault(("api", "api_key_file"), f"is missing: the API on {api.host} needs a key")
    open_grpc = grpc.tls is None and grpc.api_key is None and grpc.api_key_file is None and grpc.api_key_env is None
    if open_grpc and not grpc.host.startswith(_LOOPBACK):
        yield lines.fault(("grpc", "host"), f"{grpc.host} is reachable by others: give grpc.tls or grpc.api_key_file")
    for service, address in grpc.addresses.items():
        if ":" not in address:
            yield lines.fault(("grpc", "addresses", service), f"{address!r} must be host:port")


def _secrets(fleet: Fleet, lines: Lines, sections: tuple[str, ...] | None) -> Iterator[str]:
    for at, section in _sections((), fleet):
        if sections is not None and at and at[0] not in sections:
            continue
        for name in section.secret_fields():
            yield from _check_secret(section, lines, at, name)


def _check_secret(section: Section, lines: Lines, at: Path_, name: str) -> Iterator[str]:
    try:
        value = section.reveal(name)
    except ConfigurationError as fault:
        key, _, text = fault.faults[0].partition(": ")
        yield lines.fault((*at, key), text)
        return
    given = next((k for k in (name, f"{name}_file", f"{name}_env") if getattr(section, k) is not None), name)
    needed = (name == "webhook_url" or name == "routing_key") and value is None
    if needed:
        yield lines.fault((*at, name), f"is missing: give {name}_file, {name}_env or {name}")
    elif value is not None and name == "api_key":
        if is_placeholder(value) or len(value) < KEY_LENGTH_AT_LEAST:
            right = f"use at least {KEY_LENGTH_AT_LEAST} random characters, e.g. from: openssl rand -hex 24"
            yield lines.fault((*at, given), f"is empty, short or a placeholder; {right}")
    elif value is not None and (not value or is_placeholder(value)) and name != "password":
        yield lines.fault((*at, given), "is empty or a placeholder")


def _sections(at: Path_, value: object) -> Iterator[tuple[Path_, Section]]:
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


def shown(fleet: Fleet) -> dict[str, Any]:
    """The effective configuration with secrets masked, as plain data."""
    dumped: dict[str, Any] = fleet.model_dump(mode="json", exclude_none=True)
    return dumped


_NEEDED = {
    "collector": ("log", "instances", "collector", "grpc", "telemetry"),
    "detector": ("log", "detector", "grpc", "telemetry"),
    "controller": ("log", "dns", "instances", "failover", "grpc", "telemetry"),
    "notifier": ("log", "alerting", "grpc", "telemetry"),
    "gateway": ("log", "api", "grpc", "telemetry"),
}


def load_for(service: str, path: Path) -> Fleet:
    """The file as that service needs it: only its own parts' secrets must be readable."""
    return load(path, sections=_NEEDED[service])
