#!/bin/sh
# The protos (below the directory given; default: here) against those that landed last, whose descriptors are kept in
# baseline.binpb: nothing that clients rely on breaks unseen. A break that is meant: make proto-baseline, and say why.
set -eu
cd "$(dirname "$0")/.."
if .venv/bin/buf breaking "${1:-.}" --against proto/baseline.binpb; then
    echo "protos: nothing breaks against what landed last"
else
    echo "this breaks clients of what landed last; if it is meant: make proto-baseline, and say why in the commit" >&2
    exit 1
fi
