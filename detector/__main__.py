"""`python -m detector --config FILE`: the wiring."""

import sys

from detector import settings
from detector.edges import rpc
from detector.service import Service
from redis_agent import process
from redis_agent.rpc.server import Server
from redis_agent.v1 import detector_service_pb2_grpc


async def main(runtime: process.Runtime) -> None:
    """Wire and run the detector."""
    service = Service(runtime, settings.read(runtime.fleet))
    server = Server(runtime.fleet.grpc, rpc.NAMES_SERVED)
    detector_service_pb2_grpc.add_DetectorServiceServicer_to_server(rpc.DetectorServicer(service), server.grpc)
    detector_service_pb2_grpc.add_MetricsServiceServicer_to_server(rpc.MetricsServicer(service), server.grpc)
    runtime.listen_with(server)
    await runtime.run(service.run)


if __name__ == "__main__":
    sys.exit(process.run("detector", main))
