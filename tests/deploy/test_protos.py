"""`proto/breaking.sh` lets additions through and stops what would break a client of the protos that landed last."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def breaking(directory: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([ROOT / "proto" / "breaking.sh", directory], capture_output=True, text=True, timeout=60)


def changed(directory: Path, old: str, new: str) -> Path:
    """A copy of the protos in which one line of types.proto is another."""
    shutil.copytree(ROOT / "proto", directory / "proto")
    shutil.copy(ROOT / "buf.yaml", directory)
    file = directory / "proto" / "redis_agent" / "v1" / "types.proto"
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))
    return directory


def test_a_new_field_is_let_through(tmp_path: Path) -> None:
    done = breaking(changed(tmp_path, "string datacenter = 2;", "string datacenter = 2;\n  string shard = 99;"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_field_that_is_gone_is_named_and_what_to_do_when_it_is_meant(tmp_path: Path) -> None:
    done = breaking(changed(tmp_path, "string datacenter = 2;", ""))
    assert done.returncode == 1
    assert 'Previously present field "2" with name "datacenter" on message "Site" was deleted' in done.stdout
    assert "make proto-baseline" in done.stderr


def test_a_field_of_another_type_is_stopped(tmp_path: Path) -> None:
    done = breaking(changed(tmp_path, "string datacenter = 2;", "int64 datacenter = 2;"))
    assert done.returncode == 1
    assert "datacenter" in done.stdout
