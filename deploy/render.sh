#!/bin/sh
# Prints a kustomization's manifests: `deploy/render.sh deploy/kustomize/overlays/example | kubectl apply -f -`.
# Kustomize 5 comes from PATH, from kubectl, or from deploy/bin, where it is installed when there is Go.
set -eu
bin=$(cd "$(dirname "$0")" && pwd)/bin
module=sigs.k8s.io/kustomize/kustomize/v5@v5.8.2
nowhere="deploy/render.sh: needs kustomize 5: install kustomize, kubectl 1.27 or newer, or Go 1.26, which brings it"

if [ $# -ne 1 ]; then
    echo "usage: deploy/render.sh FOLDER" >&2
    exit 2
fi
if kustomize version 2>/dev/null | grep -q '^v[5-9]'; then
    exec kustomize build "$1"
fi
if kubectl version --client -o json 2>/dev/null | grep -q '"kustomizeVersion": *"v[5-9]'; then
    exec kubectl kustomize "$1"
fi
if [ ! -x "$bin/kustomize" ]; then
    if ! command -v go >/dev/null; then
        echo "$nowhere" >&2
        exit 1
    fi
    echo "deploy/render.sh: installing kustomize into deploy/bin, once; this takes a minute" >&2
    if ! said=$(GOBIN="$bin" go install "$module" 2>&1); then
        echo "$nowhere (go install: $(echo "$said" | tail -n 1))" >&2
        exit 1
    fi
fi
exec "$bin/kustomize" build "$1"
