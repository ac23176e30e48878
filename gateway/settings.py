"""What the gateway takes of the fleet's file."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from redis_agent.errors import ConfigurationError
from redis_agent.fleet import Fleet, GrpcSection
from redis_agent.fleet_types import STATE

GENERATED_KEY = STATE / "api.key"


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to listen, the key, and where the services are."""

    host: str
    port: int
    key: str
    generated: Path | None
    grpc: GrpcSection


def read(fleet: Fleet) -> Settings:
    """The gateway's part. Without a configured key (possible on loopback only) one is made and kept in a file.

    Raises ConfigurationError for a secret that can't be read or written.
    """
    configured = fleet.api.reveal("api_key")
    key = configured or _generated(GENERATED_KEY)
    return Settings(fleet.api.host, fleet.api.port, key, None if configured else GENERATED_KEY, fleet.grpc)


def _generated(path: Path) -> str:
    try:
        if path.exists() and (kept := path.read_text().strip()):
            return kept
        path.parent.mkdir(parents=True, exist_ok=True)
        key = secrets.token_hex(24)
        # Whole or not at all: half a key, or none, would be taken for one at the next start.
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        new.touch(mode=0o600, exist_ok=False)
        new.write_text(key + "\n")
        new.replace(path)
    except OSError as fault:
        raise ConfigurationError(
            [f"api.api_key_file: none given, and {path} can't be written: {fault.strerror}"]
        ) from fault
    return key
