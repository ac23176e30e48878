"""Every benchmark, on the embedded log and on a Kafka that this starts: what `make bench` runs."""

import subprocess
import sys
import tempfile
from pathlib import Path

from simulator.kafka_broker import KafkaCluster
from simulator.kafka_jars import ensure_jars


def _run(name: str, *arguments: str) -> None:
    print(f"\n== {name} {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], check=True)


def main() -> None:
    """Run them one after the other."""
    _run("polling")
    _run("demo")
    _run("log_bytes")
    _run("controller_scale")
    with tempfile.TemporaryDirectory() as scratch, KafkaCluster(Path(scratch), jars=ensure_jars()) as kafka:
        _run("log_latency", "--kafka", kafka.bootstrap_servers)
        _run("throughput", "--kafka", kafka.bootstrap_servers)
        _run("demo", "--kafka", kafka.bootstrap_servers)


if __name__ == "__main__":
    main()
