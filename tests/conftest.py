"""How the tests run side by side: each worker has ports and a broker of its own, a file's tests stay with one worker.

Marks: `long` (outages, matrices and long stories: `make test-all`), `tensorflow` (these share one worker), `matrix(n)`: of
such a test's cases n are run, chosen by the seed, and all with `--whole` (`make chaos`).
"""

import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from simulator.kafka_broker import KafkaCluster
from simulator.kafka_jars import ensure_jars
from simulator.ports import ENVIRONMENT, FIRST, LAST

WORKERS_AT_MOST = 24
# Files that take long begin first, so that no worker is left alone with one at the end.
LONG_FIRST = (
    "tests/conformance/test_outages.py",
    "tests/detector/test_detector_processes.py",
    "tests/e2e/",
    "tests/conformance/",
    "tests/gateway/test_page.py",
    "tests/simulator/test_kafka_broker.py",
    "tests/integration/",
    "tests/redis_agent/test_process.py",
    "tests/notifier/",
    "tests/collector/",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=1, help="which cases of the matrices are run (default 1)")
    parser.addoption("--whole", action="store_true", help="every case of the matrices")


def pytest_configure(config: pytest.Config) -> None:
    """A range of ports for this worker, which its children inherit."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS_AT_MOST
    each = (LAST - FIRST + 1) // WORKERS_AT_MOST
    os.environ[ENVIRONMENT] = f"{FIRST + number * each}-{FIRST + (number + 1) * each - 1}"


def pytest_report_header(config: pytest.Config) -> str:
    return (
        "matrices: whole" if config.getoption("whole") else f"matrices: a sample by --seed {config.getoption('seed')}"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("whole"):
        _deselect(config, items, _left_out(items, config.getoption("seed")))
    for item in items:
        group = "tensorflow" if item.get_closest_marker("tensorflow") else _file_of(item)
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=_turn)


def _left_out(items: Sequence[pytest.Item], seed: int) -> set[str]:
    """The cases of each matrix that its sample leaves out, by their ids."""
    matrices: dict[str, list[str]] = {}
    samples: dict[str, int] = {}
    for item in items:
        if (mark := item.get_closest_marker("matrix")) is not None:
            name = item.nodeid.split("[")[0]
            matrices.setdefault(name, []).append(item.nodeid)
            samples[name] = mark.args[0]
    left_out: set[str] = set()
    for name, cases in matrices.items():
        chosen = random.Random(f"{seed} {name}").sample(sorted(cases), min(samples[name], len(cases)))
        left_out |= set(cases) - set(chosen)
    return left_out


def _deselect(config: pytest.Config, items: list[pytest.Item], left_out: set[str]) -> None:
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
        items[:] = [item for item in items if item.nodeid not in left_out]


def _file_of(item: pytest.Item) -> str:
    return item.nodeid.split("::")[0]


def _turn(item: pytest.Item) -> int:
    file = _file_of(item)
    return next((turn for turn, prefix in enumerate(LONG_FIRST) if file.startswith(prefix)), len(LONG_FIRST))


@pytest.fixture(scope="session")
def jars() -> Path:
    """Kafka's jars; the first run fetches them."""
    return ensure_jars()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory, jars: Path) -> Iterator[KafkaCluster]:
    """This worker's broker. Tests use topics of their own, and leave it as they found it."""
    with KafkaCluster(tmp_path_factory.mktemp("kafka"), jars=jars) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def fleet_kafka(tmp_path_factory: pytest.TempPathFactory, jars: Path) -> Iterator[KafkaCluster]:
    """A broker for the tests of one file in which whole services write the real topics."""
    with KafkaCluster(tmp_path_factory.mktemp("kafka"), jars=jars) as cluster:
        yield cluster
