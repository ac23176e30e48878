"""The kill switch: files in one directory, so that it works without the log and without the network.

`fleet` pauses everything, a file named after an instance pauses that one; the content is the reason. A directory that
can't be read counts as paused: who can't see the switch must not act.
"""

from pathlib import Path

FLEET = "fleet"


def prepare(directory: Path) -> None:
    """Make the directory. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)


def reason(directory: Path, instance: str) -> str | None:
    """Why the instance is paused, or None when it isn't."""
    try:
        present = {entry.name for entry in directory.iterdir()}
        for name in (FLEET, instance):
            if name in present:
                return (directory / name).read_text(errors="replace").strip() or "no reason given"
    except OSError as fault:
        return f"the pause switch {directory} can't be read: {fault.strerror}"
    return None


def pause(directory: Path, instance: str | None, why: str) -> None:
    """Set the switch for one instance, or for the fleet. Raises OSError."""
    prepare(directory)
    (directory / (instance or FLEET)).write_text(why + "\n")


def resume(directory: Path, instance: str | None) -> bool:
    """Release it; whether it was set. Raises OSError."""
    path = directory / (instance or FLEET)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
