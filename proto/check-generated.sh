#!/bin/sh
# redis_agent/v1 must be what proto/ gives: regenerate beside it and compare.
set -eu
cd "$(dirname "$0")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
./proto/generate.sh "$fresh"
for file in redis_agent/v1/*_pb2*; do
    cmp -s "$file" "$fresh/$file" || { echo "$file is not what proto/ gives; run: make proto"; exit 1; }
done
for file in "$fresh"/redis_agent/v1/*_pb2*; do
    [ -e "redis_agent/v1/$(basename "$file")" ] || { echo "$(basename "$file") is missing; run: make proto"; exit 1; }
done
echo "generated code is fresh"
