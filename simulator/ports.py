"""Loopback ports that nobody listens on."""

import random
import socket


def free_ports(count: int) -> list[int]:
    """`count` different loopback ports that nobody listens on.

    Taken from below the range that the system gives to outgoing connections (Linux: from 32768): a client that
    reconnects to a dead node would now and then be given the node's own port to call from, and keep it.
    """
    ports: list[int] = []
    for port in random.sample(range(20000, 32000), 12000):
        if len(ports) == count:
            break
        if is_free(port):
            ports.append(port)
    return ports


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
    while True:
        first = free_ports(1)[0]
        if all(is_free(first + step) for step in range(count)):
            return first
