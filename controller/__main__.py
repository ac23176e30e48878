"""`python -m controller --config FILE`: the wiring."""

import sys

from controller import settings
from controller.edges import rpc
from controller.service import Service
from redis_agent import process
from redis_agent.rpc.server import Server
from redis_agent.v1 import failover_service_pb2_grpc


async def main(runtime: process.Runtime) -> None:
    """Wire and run the controller."""
    service = Service(runtime, settings.read(runtime.fleet))
    server = Server(runtime.fleet.grpc, [rpc.NAME])
    failover_service_pb2_grpc.add_FailoverServiceServicer_to_server(rpc.Servicer(service.orders), server.grpc)
    runtime.listen_with(server)
    await runtime.run(service.run)


if __name__ == "__main__":
    sys.exit(process.run("controller", main))
