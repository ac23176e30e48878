#!/bin/sh
# `make up` and `make down`: redis-agent up in the background, its process id kept in .redis-agent/up.pid.
set -eu
cd "$(dirname "$0")/.."
state=.redis-agent
running() { [ -f "$state/up.pid" ] && kill -0 "$(cat "$state/up.pid")" 2>/dev/null; }
case "$1" in
up)
    if running; then echo "already running with process id $(cat "$state/up.pid")"; exit 1; fi
    mkdir -p "$state"
    .venv/bin/redis-agent config check --here "$2"
    nohup .venv/bin/redis-agent up --config "$2" >"$state/up.log" 2>&1 &
    echo $! >"$state/up.pid"
    echo "running; its lines are in $state/up.log; stop it with: make down" ;;
down)
    if ! running; then echo "not running"; rm -f "$state/up.pid"; exit 0; fi
    kill -TERM "$(cat "$state/up.pid")"
    while running; do sleep 0.2; done
    rm -f "$state/up.pid"
    echo "stopped" ;;
esac
