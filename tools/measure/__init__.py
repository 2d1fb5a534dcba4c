"""Measurements of the runtime on this machine: `python -m tools.measure.<name> --help`."""
