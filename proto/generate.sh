#!/bin/sh
# Regenerates redis_agent/v1 from proto/. Messages everywhere; service stubs only where a file defines a service.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
rm -f redis_agent/v1/*_pb2.py redis_agent/v1/*_pb2.pyi redis_agent/v1/*_pb2_grpc.py redis_agent/v1/*_pb2_grpc.pyi
python -m grpc_tools.protoc -I proto --python_out=. --mypy_out=quiet:. proto/redis_agent/v1/*.proto
python -m grpc_tools.protoc -I proto --grpc_python_out=. --mypy_grpc_out=quiet:. proto/redis_agent/v1/*_service.proto
