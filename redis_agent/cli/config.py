"""`redis-agent config check | schema | show`."""

from pathlib import Path
from typing import Annotated

import typer

from redis_agent.cli.terminal import ConfigOption, err, find_configuration, print_json
from redis_agent.fleet import Fleet
from redis_agent.fleet_file import load, shown

app = typer.Typer(no_args_is_help=True, help="Look at the configuration.")
File = Annotated[Path | None, typer.Argument(help="The fleet's file; else as --config.")]


@app.command()
def check(file: File = None, config: ConfigOption = None) -> None:
    """Say every fault with its key, its line and what would be right; exit 2 when there is one."""
    path = find_configuration(file or config)
    fleet = load(path)
    sites = sum(len(instance.sites) for instance in fleet.instances)
    err.print(f"{path}: right: {len(fleet.instances)} instances, {sites} sites, {len(fleet.datacenters)} datacenters")


@app.command()
def schema() -> None:
    """The JSON Schema of the file, for editors."""
    print_json(Fleet.model_json_schema())


@app.command()
def show(file: File = None, config: ConfigOption = None) -> None:
    """The effective configuration: defaults and environment in, secrets masked."""
    print_json(shown(load(find_configuration(file or config))))
