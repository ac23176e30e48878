"""`redis-agent`: the commands, and what an error becomes."""

import sys

import typer

from redis_agent.cli import acting, asking, config, demo, tail, up
from redis_agent.cli.terminal import exit_code, tell
from redis_agent.errors import AgentError

app = typer.Typer(
    name="redis-agent",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Watch Redis databases in several datacentres, and move traffic by DNS: safely, once, with proof.",
)
app.command()(demo.demo)
app.command()(up.up)
app.add_typer(config.app, name="config")
app.command()(asking.status)
app.command()(acting.failover)
app.command()(asking.failovers)
app.command()(acting.approve)
app.command()(asking.alerts)
app.command()(tail.tail)
app.command()(acting.pause)
app.command()(acting.resume)


def main() -> None:
    """The console script."""
    try:
        app()
    except AgentError as fault:
        tell(fault)
        sys.exit(exit_code(fault))


if __name__ == "__main__":
    main()
