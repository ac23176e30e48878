"""`redis-agent config check | schema | show`."""

from pathlib import Path
from typing import Annotated

import typer

from redis_agent.cli.terminal import ConfigOption, find_configuration, note, print_json
from redis_agent.fleet import Fleet
from redis_agent.fleet_file import inspect, load, shown

app = typer.Typer(no_args_is_help=True, help="Look at the configuration.")
File = Annotated[Path | None, typer.Argument(metavar="[FILE]", help="The fleet's file; else as --config.")]


@app.command()
def check(
    file: File = None,
    config: ConfigOption = None,
    here: Annotated[
        bool, typer.Option("--here", help="It is to run here: each variable that it names must be set, too.")
    ] = False,
) -> None:
    """Say every fault with its key, its line and what would be right; exit 2 when there is one.

    Environment variables that the file names and that aren't set here are told, and are no fault: the services may
    run elsewhere.
    """
    path = find_configuration(file or config)
    fleet, unset = (load(path), []) if here else inspect(path)
    for line in unset:
        note(f"{line}; set it where the services run")
    counts = [(len(fleet.instances), "instance"), (sum(len(i.sites) for i in fleet.instances), "site")]
    counted = ", ".join(_many(*count) for count in (*counts, (len(fleet.datacenters), "datacenter")))
    note(f"{path}: right: {counted}")


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


@app.command()
def schema() -> None:
    """The JSON Schema of the file, for editors."""
    print_json(Fleet.model_json_schema())


@app.command()
def show(file: File = None, config: ConfigOption = None) -> None:
    """The effective configuration: defaults and environment in, secrets masked."""
    fleet, _ = inspect(find_configuration(file or config))
    print_json(shown(fleet))
