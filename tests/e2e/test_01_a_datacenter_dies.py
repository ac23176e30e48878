"""Story 1: the demo, all of it. Its exit code says whether every check of the story held."""

import subprocess
import sys
from pathlib import Path

import pytest

from simulator.ports import free_ports
from tests.e2e.child import ROOT

WITHIN_SECONDS = 170


@pytest.mark.timeout(WITHIN_SECONDS + 30)
@pytest.mark.parametrize("story", ["a-datacenter-dies", pytest.param("the-witness-is-cut-off", marks=pytest.mark.long)])
def test_the_demo_ends_as_it_should(story: str, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "redis_agent.cli", "demo", "--headless", "--story", story, "--port", str(port)]
    ended = subprocess.run(
        [*command, "--keep", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_SECONDS
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "FAIL" not in ended.stdout
    assert ended.stdout.count("ok ") >= 4
