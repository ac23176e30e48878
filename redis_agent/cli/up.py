"""`redis-agent up`: all services of one machine, until asked to stop."""

import asyncio
import logging
import signal
from typing import Annotated, Any

import typer

from redis_agent.cli.terminal import ConfigOption, err, find_configuration, run
from redis_agent.errors import ConfigurationError
from redis_agent.fleet import SERVICES, Fleet
from redis_agent.fleet_file import load
from redis_agent.supervisor import Child, Supervisor


def up(
    config: ConfigOption = None,
    only: Annotated[str | None, typer.Option(help=f"Some of {', '.join(SERVICES)}, separated by commas.")] = None,
) -> None:
    """Run every service as a child process; restart one that dies; stop them in order at Ctrl-C or SIGTERM."""
    path = find_configuration(config)
    fleet = load(path)
    wanted = _wanted(fleet, only)
    logging.basicConfig(level="INFO", format="%(asctime)s up %(levelname)s %(message)s")
    run(_up([Child(name, name, ["--config", str(path)]) for name in wanted]))


def _wanted(fleet: Fleet, only: str | None) -> list[str]:
    # From the far end to the near one: nobody sends to a sleeper.
    order = ["gateway", "notifier", "controller", "detector", "collector"]
    if only is None:
        return [name for name in order if name != "gateway" or fleet.api.enabled]
    named = [name.strip() for name in only.split(",")]
    if unknown := [name for name in named if name not in SERVICES]:
        raise ConfigurationError([f"--only: no service {', '.join(unknown)}; known: {', '.join(SERVICES)}"])
    return [name for name in order if name in named]


async def _up(children: list[Child]) -> None:
    supervisor = Supervisor(children)
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    await supervisor.start()
    waiting: asyncio.Future[Any] = asyncio.create_task(asked.wait())
    gave_up: asyncio.Future[Any] = supervisor.gave_up
    await asyncio.wait({waiting, gave_up}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    await supervisor.stop()
    if supervisor.gave_up.done():
        err.print(supervisor.gave_up.result(), markup=False)
        raise typer.Exit(2)
