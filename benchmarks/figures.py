"""Five runs, median and range; and what a process costs, as the kernel tells it."""

import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

RUNS = 5
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")


def shown(values: Sequence[float], unit: str, digits: int = 0) -> str:
    """`median (least to most) unit`."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f}) {unit}"


def runs(measure: Callable[[], float], count: int = RUNS) -> list[float]:
    """One warm-up, then `count` measurements."""
    measure()
    return [measure() for _ in range(count)]


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share (0 to 1) of the values lies."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def children_of(pid: int) -> dict[int, str]:
    """Every process below that one, with its command line."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:
            continue
        if int(fields[1]) == pid or int(fields[1]) in found:
            found[int(entry.name)] = line
    return found
