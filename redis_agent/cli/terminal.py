"""What every command shares: where the configuration is, where words go, what an error's exit code is."""

import asyncio
import json
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from rich.console import Console

from redis_agent.errors import AgentError, ConfigurationError, LogUnavailable, Refused, Unreachable
from redis_agent.fleet import Fleet
from redis_agent.fleet_file import load

ENVIRONMENT = "REDIS_AGENT_CONFIG"
_DEFAULTS = ("redis-agent.yaml", "redis-agent.yml", "redis-agent.json")

# A pipe has no width: what is a row on a terminal stays one line there, and nothing is cut.
_PIPE_COLUMNS = 100_000


def _console(stream: IO[str], *, stderr: bool) -> Console:
    fits = stream.isatty() or "COLUMNS" in os.environ
    return Console(stderr=stderr, highlight=False, width=None if fits else _PIPE_COLUMNS)


out = _console(sys.stdout, stderr=False)
err = _console(sys.stderr, stderr=True)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help=f"The fleet's file; else ${ENVIRONMENT}, else ./{_DEFAULTS[0]}.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Data as JSON.")]


def find_configuration(given: Path | None) -> Path:
    """The file to use. Raises ConfigurationError when there is none."""
    if given is not None:
        return given
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    for name in _DEFAULTS:
        if Path(name).exists():
            return Path(name)
    raise ConfigurationError([f"no configuration: give --config FILE, set {ENVIRONMENT}, or put {_DEFAULTS[0]} here"])


def read_fleet(given: Path | None) -> Fleet:
    """The fleet as a client needs it: of its secrets only those for gRPC."""
    return load(find_configuration(given), sections=("grpc",))


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a command's work; Ctrl-C ends it quietly."""
    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def exit_code(fault: AgentError) -> int:
    """What a script sees of an error."""
    match fault:
        case ConfigurationError():
            return 2
        case Refused():
            return 3
        case Unreachable() | LogUnavailable():
            return 4
        case _:
            return 1


def tell(fault: AgentError) -> None:
    """An error in words, one line a fault."""
    lines = fault.faults if isinstance(fault, ConfigurationError) else str(fault).split("\n")
    for line in lines:
        print(line, file=sys.stderr)  # noqa: T201 - plain: messages may hold brackets


def say(text: str) -> None:
    """A line of data to stdout, as it is."""
    out.print(text, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """A line of progress to stderr, as it is."""
    err.print(text, markup=False, soft_wrap=True)


def agreed(question: str) -> bool:
    """Ask on stderr; only a yes is one. (typer's own question leaves a blank on stdout.)"""
    err.print(f"{question} [y/N] ", markup=False, end="")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def print_json(data: Any) -> None:
    """Data to stdout."""
    print(json.dumps(data, indent=2, ensure_ascii=False))  # noqa: T201
