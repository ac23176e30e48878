"""`python -m gateway --config FILE`: the wiring."""

import sys

from gateway import settings
from gateway.service import Service
from redis_agent import process


async def main(life: process.Life) -> None:
    """Wire and run the gateway."""
    service = Service(life, settings.read(life.fleet))
    await life.run(service.run)


if __name__ == "__main__":
    sys.exit(process.run("gateway", main))
