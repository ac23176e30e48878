"""Apache Kafka's jars, brought by Maven from `deploy/kafka/pom.xml`, once, whole, and by one process at a time."""

import fcntl
import hashlib
import logging
import shlex
import shutil
import subprocess
from pathlib import Path

from redis_agent.errors import Permanent

DEPLOY = Path(__file__).resolve().parents[1] / "deploy" / "kafka"
FETCH_SECONDS = 600.0
MEND = "apt-get install default-jre-headless maven, or make setup-test"

log = logging.getLogger(__name__)


class NoKafka(Permanent):
    """Something that Kafka needs is missing from this machine. One line, with the command that mends it."""


def ensure_jars(directory: Path = DEPLOY) -> Path:
    """The folder with the jars of `directory`/pom.xml, brought by Maven when they are not all there.

    Two processes may call it at once: the second waits for the first. Raises NoKafka.
    """
    pom, lib = directory / "pom.xml", directory / "lib"
    if not pom.is_file():
        raise NoKafka(f"Kafka needs {pom}, which a source checkout has and an installed package lacks")
    program("java")
    if complete(pom, lib):
        return lib
    lib.mkdir(exist_ok=True)
    with (lib / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete(pom, lib):
            fetch(pom, lib)
    return lib


def complete(pom: Path, lib: Path) -> bool:
    """Whether `lib` holds exactly what Maven brought for this very pom."""
    written = lib / ".complete"
    return written.is_file() and written.read_text() == inventory(pom, lib)


def inventory(pom: Path, lib: Path) -> str:
    """The pom's digest and each jar's size and name, a line each."""
    jars = sorted(f"{jar.stat().st_size} {jar.name}" for jar in lib.glob("*.jar"))
    return "\n".join([hashlib.sha256(pom.read_bytes()).hexdigest(), *jars])


def fetch(pom: Path, lib: Path) -> None:
    mvn = program("mvn")
    log.info("Fetching Kafka's jars with Maven (43 MB) ...")
    for old in lib.glob("*.jar"):  # two versions in one class path would both be loaded, in no order
        old.unlink()
    command = [mvn, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", "-DincludeScope=runtime"]
    command.append(f"-DoutputDirectory={lib.absolute()}")
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=FETCH_SECONDS)
    except subprocess.TimeoutExpired:
        raise NoKafka(f"mvn did not bring Kafka's jars in {FETCH_SECONDS:.0f} s: try {shlex.join(command)}") from None
    except subprocess.CalledProcessError as failed:
        said = next((line for line in failed.stdout.splitlines() if "ERROR" in line), "it gave no reason").strip()
        raise NoKafka(f"mvn could not bring Kafka's jars ({said}): try {shlex.join(command)}") from None
    (lib / ".complete").write_text(inventory(pom, lib))


def program(name: str) -> str:
    """Where `name` is installed. Raises NoKafka."""
    found = shutil.which(name)
    if found is None:
        raise NoKafka(f"Kafka needs {name}, which is not on the PATH: {MEND}")
    return found
