"""What the sections of the configuration are made of: names, addresses, durations, and secrets that are never printed."""

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from redis_agent.errors import ConfigurationError

STATE = Path(".redis-agent")
"""Where what a service keeps on this machine stands, unless the configuration says otherwise."""

KEY_LENGTH_AT_LEAST = 16
_PLACEHOLDERS = re.compile(
    r"^(change.?me|secret|password|example|placeholder|dummy|test|todo|none|null|your[-_ ].*|my[-_ ].*|<.*>|\$\{.*|x+|\.+|…|\*+|(.)\2*)$",
    re.I,
)
_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


def _fqdn(name: str) -> str:
    if not name.endswith(".") or len(name) < 3 or ".." in name:
        raise ValueError(f"{name!r} must be a full domain name that ends with a dot, like orders.redis.example.com.")
    return name.lower()


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:
        return None


def _redis_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.password or parts.username:
        raise ValueError("must not carry a password; use username and password_file")
    if parts.scheme not in ("redis", "rediss") or not parts.hostname or not _port(parts):
        raise ValueError("must look like redis://host:port or rediss://host:port")
    return url


Name = Annotated[str, Field(pattern=_NAME, description="lower-case letters, digits and dashes")]
Fqdn = Annotated[str, AfterValidator(_fqdn)]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
Seconds = Annotated[float, Field(gt=0, le=86_400 * 400)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Section(BaseModel):
    """A part of the configuration: frozen, and no key beyond the ones it knows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def secret_fields(self) -> list[str]:
        """Names `x` of this section's secrets."""
        fields = type(self).model_fields
        return [name for name in fields if f"{name}_file" in fields and f"{name}_env" in fields]

    def gives(self, name: str) -> str | None:
        """The key that gives the secret `name`: itself, `name`_file or `name`_env; None when none does."""
        return next((key for key in (name, f"{name}_file", f"{name}_env") if getattr(self, key) is not None), None)

    def reveal(self, name: str) -> str | None:
        """The secret `name`: from the file, its own file or the environment; None when not configured.

        Raises ConfigurationError for a file that can't be read, or a variable that isn't set.
        """
        direct: SecretStr | None = getattr(self, name)
        path: Path | None = getattr(self, f"{name}_file")
        variable: str | None = getattr(self, f"{name}_env")
        if direct is not None:
            return direct.get_secret_value()
        if path is not None:
            return _read_secret(path, f"{name}_file")
        if variable is not None:
            if variable not in os.environ:
                raise ConfigurationError([f"{name}_env: the environment variable {variable} isn't set"])
            return os.environ[variable].strip()
        return None

    @model_validator(mode="after")
    def _each_secret_once(self) -> Self:
        for name in self.secret_fields():
            given = [key for key in (name, f"{name}_file", f"{name}_env") if getattr(self, key) is not None]
            if len(given) > 1:
                raise ValueError(f"give one of {', '.join(given)}, not {len(given)}")
        return self


def _read_secret(path: Path, key: str) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as fault:
        raise ConfigurationError([f"{key}: {path.absolute()} can't be read: {fault.strerror}"]) from fault
    except UnicodeDecodeError:
        raise ConfigurationError([f"{key}: {path.absolute()} can't be read: it isn't text in UTF-8"]) from None


def is_placeholder(key: str) -> bool:
    """Whether a key looks like one from a manual."""
    return bool(_PLACEHOLDERS.match(key.strip()))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
