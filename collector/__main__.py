"""`python -m collector --config FILE`: the wiring."""

import sys

from collector import settings
from collector.edges import rpc
from collector.service import Service
from redis_agent import process
from redis_agent.rpc.server import Server
from redis_agent.v1 import collector_service_pb2_grpc


async def main(runtime: process.Runtime) -> None:
    """Wire and run the collector."""
    service = Service(runtime, settings.read(runtime.fleet))
    server = Server(runtime.fleet.grpc, [rpc.NAME])
    collector_service_pb2_grpc.add_CollectorServiceServicer_to_server(rpc.Servicer(service), server.grpc)
    runtime.listen_with(server)
    await runtime.run(service.run)


if __name__ == "__main__":
    sys.exit(process.run("collector", main))
