"""What the figures of README.md beside this are made with: `python -m benchmarks.NAME` from the repository's root."""
