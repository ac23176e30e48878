"""`redis-agent demo`: two simulated datacentres of real Redis servers, all services, and a story that ends in checks."""

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import grpc
import typer
from rich.live import Live

from redis_agent.cli.demo_screen import Screen
from redis_agent.cli.reaching import controller
from redis_agent.cli.terminal import ENVIRONMENT, err, out, run
from redis_agent.errors import ConfigurationError, Permanent, Unreachable
from redis_agent.fleet import Fleet
from redis_agent.fleet_file import load
from redis_agent.rpc.channel import DEADLINE_SECONDS, answer
from redis_agent.rpc.plain import plain
from redis_agent.rpc.probe import ask
from redis_agent.supervisor import Child, Supervisor
from redis_agent.v1 import failover_service_pb2 as pb

_READY_SECONDS = 60.0
_KAFKA_SECONDS = 3.0

if TYPE_CHECKING:
    from simulator.story import Status, StoryLog
    from simulator.world import World


@dataclass(frozen=True, slots=True)
class Options:
    """What the demo was asked for."""

    story: str
    headless: bool
    duration: float | None
    port: int
    kafka: str | None
    keep: Path | None


def demo(
    headless: Annotated[bool, typer.Option("--headless", help="No live screen; end when the story ends.")] = False,
    story: Annotated[str, typer.Option(help="a-datacenter-dies or the-witness-is-cut-off.")] = "a-datacenter-dies",
    duration: Annotated[float | None, typer.Option(min=1, help="Seconds to keep running after the story.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The page's port.")] = 8080,
    kafka: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Use Kafka instead of the embedded log.")
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Keep the log and every service's output in this directory.")
    ] = None,
) -> None:
    """Two datacentres of real Redis servers, one of which dies, and a client that follows the name to the other.

    Exit 0 only if the story ended as it should.
    """
    with_screen = sys.stdout.isatty() and not headless
    run(_demo(Options(story, not with_screen, duration, port, kafka, keep)))


async def _demo(options: Options) -> None:
    from simulator.redis_server import NoRedisServer
    from simulator.story import STORIES

    if options.story not in STORIES:
        raise ConfigurationError([f"--story: {options.story!r} is none of {', '.join(STORIES)}"])
    with contextlib.ExitStack() as stack:
        if options.keep is not None:
            options.keep.mkdir(parents=True, exist_ok=True)
            directory = options.keep
        else:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="redis-agent-demo-")))
        try:
            await _play(options, directory.absolute())
        except NoRedisServer as fault:
            raise Permanent(str(fault)) from fault


async def _play(options: Options, directory: Path) -> None:
    from simulator.story import STORIES, StoryLog, all_ready

    await _check_room(options)
    say = (lambda line: err.print(line, markup=False, soft_wrap=True)) if options.headless else (lambda _line: None)
    story_log = StoryLog(say)
    async with (
        _running(options, directory, story_log) as (world, supervisor, fleet),
        _status_of(fleet, world) as status,
    ):
        screen = Screen(world, story_log, fleet.api.port)
        async with _shown(screen, status, live=not options.headless):
            await _services_ready(fleet, supervisor)
            await all_ready(world, status, story_log)
            await STORIES[options.story](world, status, story_log)
            if not options.headless:
                await screen.linger(options.duration)
            elif options.duration:
                await asyncio.sleep(options.duration)
    _report(story_log, supervisor)


@asynccontextmanager
async def _running(
    options: Options, directory: Path, story_log: "StoryLog"
) -> AsyncIterator[tuple["World", Supervisor, Fleet]]:
    from simulator.world import Terms, World

    log = {"kafka": {"bootstrap_servers": options.kafka}} if options.kafka else None
    # Kafka keeps what earlier demos wrote: an instance of its own keeps them apart.
    name = f"orders-{int(time.time()) % 100000}" if options.kafka else "orders"
    world = World(directory, Terms(instance=name, log=log, gateway_port=options.port))
    story_log.tell("starting two datacentres of real Redis servers, a witness, DNS and the services")
    try:
        await world.start()
        own = world.write_configuration("controller")
        fleet = load(own)
        supervisor = Supervisor(_children(world, own, directory), story_log.tell)
        try:
            await supervisor.start()
            await _page_answers(fleet, supervisor)
            story_log.tell(f"the page: http://127.0.0.1:{fleet.api.port}/login?key={world.api_key}")
            story_log.tell(f"to look around: . .venv/bin/activate; export {ENVIRONMENT}={own}; redis-agent status")
            yield world, supervisor, fleet
        finally:
            await supervisor.stop()
    finally:
        await world.stop()


def _children(world: "World", own: Path, directory: Path) -> list[Child]:
    from simulator.world import VANTAGES

    ends = [_child(name, name, own, directory) for name in ("gateway", "controller", "notifier")]
    vantages = [_child(f"collector-{v}", "collector", world.write_configuration(v), directory) for v in VANTAGES]
    return [*ends, *vantages, _child("detector", "detector", world.write_configuration("witness"), directory)]


def _child(name: str, module: str, configuration: Path, directory: Path) -> Child:
    return Child(name, module, ["--config", str(configuration)], output=directory / f"{name}.log")


async def _check_room(options: Options) -> None:
    """Say at once what would be found out late. Raises ConfigurationError, Unreachable."""
    from simulator.ports import is_free

    if not is_free(options.port):
        raise ConfigurationError([f"port {options.port} on 127.0.0.1 is in use; choose another with --port"])
    if options.kafka is None:
        return
    host, _, port = options.kafka.rpartition(":")
    try:
        async with asyncio.timeout(_KAFKA_SECONDS):
            _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
    except (OSError, ValueError) as fault:
        raise Unreachable(f"Kafka at {options.kafka} does not answer ({fault}); start one with: make kafka") from fault


async def _page_answers(fleet: Fleet, supervisor: Supervisor) -> None:
    import httpx

    async with httpx.AsyncClient() as client, asyncio.timeout(60):
        while not supervisor.gave_up.done():
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get(f"http://127.0.0.1:{fleet.api.port}/healthz")).is_success:
                    return
            await asyncio.sleep(0.1)
    raise ConfigurationError(
        [f"{supervisor.gave_up.result()}; is port {fleet.api.port} in use? Choose another with --port"]
    )


async def _services_ready(fleet: Fleet, supervisor: Supervisor) -> None:
    """Wait until every service is SERVING. Raises ConfigurationError when one can't run, Unreachable after a minute."""
    deadline = time.monotonic() + _READY_SECONDS
    for service in ("controller", "notifier", "detector"):
        address = fleet.grpc.address(service)
        while not await asyncio.to_thread(_serves, address):
            if supervisor.gave_up.done():
                raise ConfigurationError([supervisor.gave_up.result()])
            if time.monotonic() > deadline:
                raise Unreachable(f"the {service} is not ready after {_READY_SECONDS:.0f} s; its lines are in its log")
            await asyncio.sleep(0.2)


def _serves(address: str) -> bool:
    try:
        return ask(address, 1.0) == "SERVING"
    except grpc.RpcError:
        return False


@asynccontextmanager
async def _status_of(fleet: Fleet, world: "World") -> AsyncIterator["Status"]:
    async with controller(fleet) as (stub, key):

        async def status() -> dict[str, Any]:
            asked = pb.GetInstanceStatusRequest(instance=world.terms.instance)
            reply = await answer(stub.GetInstanceStatus(asked, timeout=DEADLINE_SECONDS, metadata=key))
            found: dict[str, Any] = plain(reply.status)
            return found

        yield status


@asynccontextmanager
async def _shown(screen: Screen, status: "Status", *, live: bool) -> AsyncIterator[None]:
    if not live:
        yield
        return
    with Live(console=out, screen=False, auto_refresh=False) as display:
        drawing = asyncio.create_task(screen.draw(display, status))
        try:
            yield
        finally:
            drawing.cancel()
            await asyncio.gather(drawing, return_exceptions=True)


def _report(story_log: "StoryLog", supervisor: Supervisor) -> None:
    from simulator.story import Check

    died = [name for name, count in supervisor.restarts.items() if count]
    story_log.checks.append(Check("no service died", not died, ", ".join(died) or "none did"))
    for name, seconds in story_log.phases:
        out.print(f"{name:14} {seconds:6.2f} s after the fault")
    for check in story_log.checks:
        sign = "[green]ok[/]  " if check.held else "[red]FAIL[/]"
        out.print(f"{sign} {check.what}: ", end="", soft_wrap=True)
        out.print(check.seen, markup=False, soft_wrap=True)
    if not story_log.held:
        raise Permanent("the story did not end as it should; see the lines above")
