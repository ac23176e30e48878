"""The base model that ships with the detector, made anew: what `make model` runs. About ten minutes.

Two fleets of ten real redis-servers each play healthy traffic at once, watched by real collectors, one at an interval of
half a second and one of a second; what they recorded trains `detector/base_model`.

    python -m benchmarks.base_model [--seconds 480] [--out detector/base_model]
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

INTERVALS = {"half": 0.5, "one": 1.0}
HERE = Path(__file__).parents[1]


def play(scratch: Path, data: Path, seconds: float) -> None:
    """Record every fleet. Raises CalledProcessError."""
    fleets = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.healthy_load"),
                *("--out", scratch / name, "--record", data / f"{name}.parquet"),
                *("--seconds", str(seconds), "--interval-seconds", str(interval), "--seed", str(seed)),
            ],
            cwd=HERE,
        )
        for seed, (name, interval) in enumerate(INTERVALS.items(), 1)
    ]
    for fleet in fleets:
        if fleet.wait():
            raise subprocess.CalledProcessError(fleet.returncode, fleet.args)


def main() -> None:
    """Record and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument("--out", type=Path, default=HERE / "detector" / "base_model")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        data.mkdir()
        play(Path(scratch), data, arguments.seconds)
        words = [sys.executable, "-m", "detector.train", "--data", data, "--out", arguments.out]
        subprocess.run(words, cwd=HERE, check=True)


if __name__ == "__main__":
    main()
