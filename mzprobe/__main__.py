"""Entry point of `python -m mzprobe`."""

from mzprobe.cli import main

main()
