"""`python -m redis_agent.rpc.probe HOST:PORT`: what grpc.health.v1 says there, as an exit code.

For health checks where no native gRPC probe exists. 0: SERVING; 1: it answers, but isn't serving (it may be waiting for its
log); 2: usage; 4: no answer in time. With `--alive` any answer is 0, so that nobody kills a service for waiting. No key is
needed: health is open. A server with TLS isn't reached.
"""

import argparse
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_SECONDS = 3.0
_SERVING = 0
_NOT_SERVING = 1
_UNREACHABLE = 4


def ask(address: str, timeout_seconds: float) -> str:
    """The status of the server as a whole: SERVING, NOT_SERVING or UNKNOWN. Raises grpc.RpcError without an answer."""
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_seconds)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def main(arguments: list[str] | None = None) -> int:
    """Ask once and say what came back on one line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m redis_agent.rpc.probe", description="Exit 0 when SERVING.")
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("--alive", action="store_true", help="any answer will do, NOT_SERVING too")
    parser.add_argument(
        "--timeout", type=float, default=TIMEOUT_SECONDS, metavar="SECONDS", help="default: %(default)s"
    )
    given = parser.parse_args(arguments)
    try:
        status = ask(given.address, given.timeout)
    except grpc.RpcError as fault:
        print(f"{given.address}: {fault.code().name}: {fault.details()}", file=sys.stderr)  # noqa: T201 - the command's answer
        return _UNREACHABLE
    print(f"{given.address}: {status}")  # noqa: T201 - the command's answer
    return _SERVING if given.alive or status == "SERVING" else _NOT_SERVING


if __name__ == "__main__":
    sys.exit(main())
