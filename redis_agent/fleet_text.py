"""The text of the fleet's file: read as YAML or JSON, and which line each key stands on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from redis_agent.errors import ConfigurationError

KeyPath = tuple[str | int, ...]


def dotted(at: KeyPath) -> str:
    """`("instances", 0, "sites")` as people write it: `instances[0].sites`."""
    text = ""
    for part in at:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class Lines:
    """Where each key was given: on which line of the file, or in which environment variable."""

    def __init__(self, name: str, root: yaml.Node | None) -> None:
        self.name = name
        self.variables: dict[KeyPath, str] = {}
        self._lines: dict[KeyPath, int] = {}
        if root is not None:
            self._walk((), root, set())

    def _walk(self, at: KeyPath, node: yaml.Node, met: set[int]) -> None:
        self._lines.setdefault(at, node.start_mark.line + 1)
        if id(node) in met:
            return  # an alias: its keys are on the lines of its anchor
        met.add(id(node))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                self._lines[(*at, key.value)] = key.start_mark.line + 1
                self._walk((*at, key.value), value, met)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._walk((*at, index), value, met)

    def fault(self, at: KeyPath, text: str) -> str:
        """One line that names file and line (or variable), key and fault."""
        return f"{self._place(at)}: {dotted(at) or 'the file'}: {text}"

    def _place(self, at: KeyPath) -> str:
        where = at
        if at and at not in self._lines:  # a section that variables alone give
            variable = next((name for given, name in self.variables.items() if given[: len(at)] == at), None)
            if variable is not None:
                return variable
        while where:
            if where in self.variables:
                return self.variables[where]
            if where in self._lines:
                break
            where = where[:-1]
        return f"{self.name}:{self._lines.get(where, 1)}"


def read(path: Path) -> tuple[dict[str, Any], Lines]:
    """The file's content and its lines. Raises ConfigurationError for what is neither YAML nor JSON, or says a key twice."""
    text = _text(path)
    # Tabs separate in JSON and are an error in YAML, which is what finds the lines.
    is_json = path.suffix == ".json"
    try:
        data = json.loads(text) if is_json else yaml.safe_load(text)
        node = yaml.compose(text.replace("\t", " ") if is_json else text, Loader=yaml.SafeLoader)
    except json.JSONDecodeError as fault:
        raise ConfigurationError([f"{path}:{fault.lineno}: not JSON: {fault.msg}"]) from None
    except yaml.YAMLError as fault:
        raise ConfigurationError([_not_yaml(path, fault)]) from None
    except RecursionError:
        raise ConfigurationError([f"{path}:1: nested too deeply to be a fleet's file"]) from None
    if not isinstance(data, dict):
        raise ConfigurationError([f"{path}:1: must be a mapping of sections: log, datacenters, instances, …"])
    lines = Lines(str(path), node)
    if node is not None and (twice := list(_doubles((), node, set()))):
        raise ConfigurationError([f"{path}:{line}: {dotted(at)}: given twice; keep one" for at, line in twice])
    return data, lines


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as fault:
        raise ConfigurationError([f"{path}: can't be read: {fault.strerror}"]) from fault
    except UnicodeDecodeError as fault:
        line = fault.object[: fault.start].count(b"\n") + 1
        raise ConfigurationError([f"{path}:{line}: not text: it must be YAML or JSON in UTF-8"]) from None


def _not_yaml(path: Path, fault: yaml.YAMLError) -> str:
    mark = getattr(fault, "problem_mark", None)
    line = mark.line + 1 if mark is not None else 1
    problem = getattr(fault, "problem", None) or str(fault).split("\n", 1)[0]
    if "undefined alias" in problem:  # what follows the star may be a secret that lacks its quotes
        problem = "a value that begins with * or & must stand in quotes"
    return f"{path}:{line}: not YAML: {problem}"


def _doubles(at: KeyPath, node: yaml.Node, met: set[int]) -> Iterator[tuple[KeyPath, int]]:
    if id(node) in met:
        return
    met.add(id(node))
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield (*at, key.value), key.start_mark.line + 1
            seen.add(key.value)
            yield from _doubles((*at, key.value), value, met)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _doubles((*at, index), value, met)
