"""`python -m notifier --config FILE`: the wiring."""

import sys

from notifier import settings
from notifier.edges import rpc
from notifier.service import Service
from redis_agent import process
from redis_agent.rpc.server import Server
from redis_agent.v1 import alert_service_pb2_grpc


async def main(runtime: process.Runtime) -> None:
    """Wire and run the notifier."""
    service = Service(runtime, settings.read(runtime.fleet))
    server = Server(runtime.fleet.grpc, [rpc.NAME])
    alert_service_pb2_grpc.add_AlertServiceServicer_to_server(rpc.Servicer(service), server.grpc)
    runtime.listen_with(server)
    await runtime.run(service.run)


if __name__ == "__main__":
    sys.exit(process.run("notifier", main))
