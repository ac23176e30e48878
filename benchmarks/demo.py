"""The demo, five times: seconds of each phase, memory of each service, and from `make demo` to the page answering.

python benchmarks/demo.py [--kafka localhost:9092] [--runs 5]
"""

import argparse
import re
import subprocess
import time
from collections import defaultdict
from pathlib import Path

import httpx

from benchmarks.figures import children_of, rss_bytes, shown
from simulator.ports import free_ports

_ROOT = Path(__file__).parents[1]
_PHASE = re.compile(r"^(\S.*?)\s+(\d+\.\d+) s after the fault$")
_MODULE = re.compile(r"-m (collector|detector|controller|notifier|gateway) ")
_MEGABYTE = 1024 * 1024


def _name(line: str) -> str:
    found = _MODULE.search(line)
    if found:
        return found.group(1)
    return "redis-server" if "redis-server" in line or "valkey-server" in line else "the demo itself"


def _play(port: int, kafka: str | None) -> tuple[dict[str, float], dict[str, float], float, float]:
    """Phases, most memory by service in MB, most memory of all together in MB, seconds until the page answered."""
    command = [str(_ROOT / ".venv/bin/redis-agent"), "demo", "--headless", "--port", str(port)]
    began = time.monotonic()
    process = subprocess.Popen(
        [*command, *(["--kafka", kafka] if kafka else [])], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    answered = 0.0
    most: dict[str, float] = defaultdict(float)
    whole = 0.0
    while process.poll() is None:
        if not answered and _answers(port):
            answered = time.monotonic() - began
        sizes = _sizes(process.pid)
        for name, size in sizes:
            most[name] = max(most[name], size)
        whole = max(whole, sum(size for _, size in sizes))
        time.sleep(0.1 if not answered else 0.5)
    output = process.stdout.read() if process.stdout is not None else ""
    if process.returncode != 0:
        raise RuntimeError(output)
    phases = {found.group(1): float(found.group(2)) for line in output.splitlines() if (found := _PHASE.match(line))}
    return phases, most, whole, answered


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=0.5).is_success
    except httpx.HTTPError:
        return False


def _sizes(pid: int) -> list[tuple[str, float]]:
    found = []
    for child, line in {pid: "demo", **children_of(pid)}.items():
        try:
            found.append((_name(line), rss_bytes(child) / _MEGABYTE))
        except (OSError, ValueError):
            continue
    return found


def _made(port: int) -> float:
    """Seconds from `make demo` in a set-up clone to the page answering. The demo is ended after that."""
    began = time.monotonic()
    process = subprocess.Popen(["make", "demo"], cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not _answers(port):
        if process.poll() is not None or time.monotonic() - began > 60:
            raise RuntimeError("make demo did not come up")
        time.sleep(0.05)
    took = time.monotonic() - began
    process.wait()
    return took


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", help="host:port of a broker")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    phases: dict[str, list[float]] = defaultdict(list)
    memory: dict[str, list[float]] = defaultdict(list)
    whole, made = [], []
    for _ in range(arguments.runs):
        seen, most, total, _ = _play(free_ports(1)[0], arguments.kafka)
        for name, seconds in seen.items():
            phases[name].append(seconds)
        for name, size in most.items():
            memory[name].append(size)
        whole.append(total)
        if not arguments.kafka:
            made.append(_made(8080))
    for name, values in phases.items():
        print(f"{name:14} {shown(values, 's after the fault', 2)}")
    for name, values in memory.items():
        print(f"{name:16} {shown(values, 'MB at most')}")
    print(f"{'all together':16} {shown(whole, 'MB at most')}")
    if made:
        print(f"make demo to the page answering: {shown(made, 's', 1)}")


if __name__ == "__main__":
    main()
