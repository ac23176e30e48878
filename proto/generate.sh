#!/bin/sh
# Regenerates redis_agent/v1 from proto/, below the directory given (default: here). Service stubs only where there is a service.
set -eu
cd "$(dirname "$0")/.."
target=${1:-.}
PATH="$PWD/.venv/bin:$PATH"
mkdir -p "$target/redis_agent/v1"
rm -f "$target"/redis_agent/v1/*_pb2*
python -m grpc_tools.protoc -I proto --python_out="$target" --mypy_out=quiet:"$target" proto/redis_agent/v1/*.proto
python -m grpc_tools.protoc -I proto --grpc_python_out="$target" --mypy_grpc_out=quiet:"$target" proto/redis_agent/v1/*_service.proto
