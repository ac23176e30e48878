"""A wall clock of its own for a child process, which can jump while the monotonic clock goes on: by libfaketime."""

from collections.abc import Mapping
from pathlib import Path

_LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib")


class WallClock:
    """The wall clock of the processes that are started with `variables`. `set` and `shift` work on them at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.shift(0)

    @property
    def variables(self) -> Mapping[str, str]:
        """For the environment of such a process."""
        return {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def shift(self, seconds: float) -> None:
        """So many seconds ahead of the machine's own clock; behind it when negative."""
        self._write(f"{seconds:+.0f}s")

    def set(self, text: str) -> None:
        """To that moment, local time, `YYYY-MM-DD hh:mm:ss`; it goes on from there."""
        self._write(f"@{text}")

    def _write(self, text: str) -> None:
        # A reader must never find the file empty.
        fresh = self._path.with_suffix(".new")
        fresh.write_text(text + "\n")
        fresh.replace(self._path)


def _library() -> Path:
    found = [path for where in _LIBRARIES for path in Path(where).glob("**/faketime/libfaketimeMT.so.1")]
    if not found:
        raise FileNotFoundError("libfaketimeMT.so.1 isn't installed: make setup-test")
    return found[0]
