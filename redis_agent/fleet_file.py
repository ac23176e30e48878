"""Reading the fleet's file: every fault at once, each with its key, its line and what would be right."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from redis_agent import fleet_check
from redis_agent.errors import ConfigurationError
from redis_agent.fleet import Fleet
from redis_agent.fleet_text import KeyPath, Lines, read

_PREFIX = "REDIS_AGENT__"
_SECRETS = ("password", "key", "webhook_url")
_FORMS = ("", "_file", "_env")
_CREDENTIALS = re.compile(r"//[^/]*@")


def load(path: Path, environ: Mapping[str, str] = os.environ, sections: tuple[str, ...] | None = None) -> Fleet:
    """Read, override from the environment, validate and cross-check the file.

    `sections` names the parts whose secrets must be readable (None: all). Raises ConfigurationError with every fault.
    """
    fleet, lines = _read(path, environ)
    found = [*fleet_check.faults(fleet, lines), *fleet_check.unreadable(fleet, lines, sections)]
    if found := [*found, *fleet_check.unset(fleet, lines, sections)]:
        raise ConfigurationError(found)
    return fleet


def inspect(path: Path, environ: Mapping[str, str] = os.environ) -> tuple[Fleet, list[str]]:
    """The file as it would be used elsewhere, and the environment variables of its secrets that aren't set here.

    Raises ConfigurationError with every other fault.
    """
    fleet, lines = _read(path, environ)
    if found := [*fleet_check.faults(fleet, lines), *fleet_check.unreadable(fleet, lines, None)]:
        raise ConfigurationError(found)
    return fleet, list(fleet_check.unset(fleet, lines))


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


def shown(fleet: Fleet) -> dict[str, Any]:
    """The effective configuration with secrets masked, as plain data."""
    masked: dict[str, Any] = _masked(fleet.model_dump(mode="json", exclude_none=True))
    return masked


def _masked(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _masked(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_masked(value) for value in data]
    return _CREDENTIALS.sub("//***@", data) if isinstance(data, str) else data


def _read(path: Path, environ: Mapping[str, str]) -> tuple[Fleet, Lines]:
    data, lines = read(path)
    _override(data, lines, environ)
    try:
        return Fleet.model_validate(data), lines
    except ValidationError as fault:
        errors = fault.errors()
        # An item that is wrong also makes its list short: that follows, and isn't said.
        inner = {error["loc"][:depth] for error in errors for depth in range(len(error["loc"]))}
        told = [e for e in errors if not (e["type"] == "too_short" and e["loc"] in inner)]
        raise ConfigurationError([_said(lines, error) for error in told]) from None


# --- the environment --------------------------------------------------------------------------------------------


def _override(data: dict[str, Any], lines: Lines, environ: Mapping[str, str]) -> None:
    """`REDIS_AGENT__COLLECTOR__VANTAGE=dc-west` over `collector.vantage`; values are YAML, secrets are text."""
    for name, value in sorted(environ.items()):
        if not name.startswith(_PREFIX):
            continue
        *parents, last = at = tuple(name.removeprefix(_PREFIX).lower().split("__"))
        if not all(at):
            raise ConfigurationError([f"{name}: names no key; write {_PREFIX}SECTION__KEY"])
        here = _section(data, parents, name)
        for other in _other_forms(last):
            here.pop(other, None)
        here[last] = value if _is_secret((last,)) else _value(name, value)
        lines.variables[at] = name


def _section(data: dict[str, Any], parents: list[str], name: str) -> dict[str, Any]:
    here: Any = data
    for parent in parents:
        if here.get(parent) is None:
            here[parent] = {}
        here = here[parent]
        if not isinstance(here, dict):
            raise ConfigurationError([f"{name}: {parent} isn't a section; only keys of sections can be overridden"])
    found: dict[str, Any] = here
    return found


def _value(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigurationError([f"{name}: its value isn't YAML; put it in quotes within the quotes"]) from None


def _other_forms(key: str) -> list[str]:
    """A secret given here replaces the same secret in another form: `x`, `x_file` or `x_env`."""
    stem = key.removesuffix("_file").removesuffix("_env")
    return [stem + form for form in _FORMS if stem + form != key] if stem.endswith(_SECRETS) else []


# --- a fault in words -------------------------------------------------------------------------------------------


def _said(lines: Lines, error: ErrorDetails) -> str:
    at = tuple(part for part in error["loc"] if part != "[key]")
    kind, given = error["type"], error.get("input")
    if kind == "invalid_key":
        at = (*at[:-1], str(at[-1]))
    if kind in ("extra_forbidden", "invalid_key") or error["loc"][-1:] == ("[key]",):
        return lines.fault(at, f"unknown key; known here: {', '.join(_known(at[:-1]))}")
    if kind == "missing":
        return lines.fault(at, f"is missing; it is {_wanted(at)}")
    if given is None:
        return lines.fault(at, f"is empty; it is {_wanted(at)}: give it, or leave the key out")
    message = _message(kind, error["msg"], at)
    if _is_secret(at) or str(at[-1]).endswith("url") or not isinstance(given, str | int | float | bool):
        return lines.fault(at, message)
    return lines.fault(at, f"{message} (got {_masked(given)!r})")


def _message(kind: str, message: str, at: KeyPath) -> str:
    if kind == "string_pattern_mismatch" and (wanted := _place(at).get("description")):
        return f"must be {wanted}"
    if kind == "too_short":
        return "must have at least one item"
    if kind in ("model_type", "model_attributes_type", "dict_type", "tuple_type"):
        return f"must be {_wanted(at)}"
    return message.removeprefix("Value error, ").replace("Input should be", "must be")


def _is_secret(at: KeyPath) -> bool:
    return any(isinstance(part, str) and part.endswith(_SECRETS) for part in at)


# --- what the schema says of a place ----------------------------------------------------------------------------


def _known(at: KeyPath) -> list[str]:
    """The keys of the section at that place."""
    place = _place(at)
    names = place.get("propertyNames", {}).get("enum") or place.get("properties", {})
    return sorted(names)


def _wanted(at: KeyPath) -> str:
    """What belongs at that place, in words."""
    place = _place(at)
    if known := _known(at):
        return f"a section with {', '.join(place.get('required') or known)}"
    words = {"array": "a list", "object": "a section", "integer": "a whole number", "number": "a number"}
    if place.get("type") in words:
        return words[place["type"]]
    return str(place.get("description") or "text")


def _place(at: KeyPath) -> dict[str, Any]:
    """The schema of that place, found by walking from the whole."""
    schema = Fleet.model_json_schema()
    here: dict[str, Any] = schema
    for part in at:
        if isinstance(part, int):
            here = here.get("items", here)
        else:
            here = here.get("properties", {}).get(part) or here.get("additionalProperties") or {}
        here = _resolved(schema, here)
    return here


def _resolved(schema: dict[str, Any], here: dict[str, Any]) -> dict[str, Any]:
    chosen = next((o for o in here.get("anyOf", ()) if "$ref" in o or o.get("type") != "null"), here)
    if "$ref" in chosen:
        chosen = schema["$defs"][chosen["$ref"].rsplit("/", 1)[-1]]
    return {**chosen, **{key: here[key] for key in ("description",) if key in here}}
