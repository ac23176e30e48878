#!/bin/sh
# The protos against the last release's tag: nothing that clients rely on may break. Without a tag there is nothing to break.
set -eu
cd "$(dirname "$0")/.."
tag=$(git describe --tags --abbrev=0 2>/dev/null || true)
if [ -z "$tag" ]; then echo "buf breaking: no release yet, nothing to compare with"; exit 0; fi
.venv/bin/buf breaking --against ".git#tag=$tag"
