"""`python -m gateway --config FILE`: the wiring."""

import sys

from gateway import settings
from gateway.service import Service
from redis_agent import process


async def main(runtime: process.Runtime) -> None:
    """Wire and run the gateway."""
    service = Service(runtime, settings.read(runtime.fleet))
    await runtime.run(service.run)


if __name__ == "__main__":
    sys.exit(process.run("gateway", main))
