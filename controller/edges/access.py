"""How to reach a site's Redis server and log in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis.asyncio
from redis.asyncio.connection import SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

TIMEOUT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach one site's server and log in. `certificate_name`: whose certificate it must show; None: the host's."""

    host: str
    port: int
    tls: bool = False
    ca_file: str | None = None
    username: str | None = None
    password: str | None = None
    certificate_name: str | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class _Named(SSLConnection):
    """A TLS connection to an address, to a server that must prove another name."""

    def __init__(self, certificate_name: str, **rest: Any) -> None:
        super().__init__(**rest)
        self._certificate_name = certificate_name

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "server_hostname": self._certificate_name}


def client_of(site: Access) -> "redis.asyncio.Redis":
    """A client with one connection, short deadlines and no retries; a context manager that closes it."""
    plain: dict[str, Any] = {
        "host": site.host,
        "port": site.port,
        "username": site.username,
        "password": site.password,
        "protocol": 2,
        "driver_info": None,
        "socket_timeout": TIMEOUT_SECONDS,
        "socket_connect_timeout": TIMEOUT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }
    if not site.tls:
        return redis.asyncio.Redis(**plain, single_connection_client=True)
    tls: dict[str, Any] = {"ssl_ca_certs": site.ca_file, "certificate_name": site.certificate_name or site.host}
    pool = redis.asyncio.ConnectionPool(connection_class=_Named, **plain, **tls)
    return redis.asyncio.Redis.from_pool(pool)
