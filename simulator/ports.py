"""Loopback ports that nobody listens on."""

import os
import random
import socket

FIRST, LAST = 20_000, 31_999
"""Below the range that the system gives to outgoing connections (Linux: from 32768): a client that reconnects to a dead
node would now and then be given the node's own port to call from, and keep it."""

ENVIRONMENT = "REDIS_AGENT_PORTS"
"""A range like 20000-20499 to choose from instead: several test runs side by side each have one of their own."""


def free_ports(count: int) -> list[int]:
    """`count` different loopback ports that nobody listens on."""
    ports: list[int] = []
    chosen_from = _range()
    for port in random.sample(chosen_from, len(chosen_from)):
        if len(ports) == count:
            break
        if is_free(port):
            ports.append(port)
    return ports


def _range() -> range:
    first, _, last = os.environ.get(ENVIRONMENT, f"{FIRST}-{LAST}").partition("-")
    return range(int(first), int(last) + 1)


def is_free(port: int) -> bool:
    """Whether the port can be listened on now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as java does: connections just closed don't count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def ports_in_a_row(count: int) -> int:
    """The first of `count` free ports in a row."""
    chosen_from = _range()
    while True:
        [first] = random.sample(chosen_from[:-count], 1)
        if all(is_free(first + step) for step in range(count)):
            return first
