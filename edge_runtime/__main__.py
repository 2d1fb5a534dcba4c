"""``edge-label``, and ``python -m edge_runtime``."""

import sys

from edge_runtime.daemon.signals import Signals


def main() -> int:
    """Catch signals before anything is loaded: a service manager does not wait for Python."""
    signals = Signals()
    from edge_runtime import cli

    return cli.main(signals=signals)


if __name__ == "__main__":
    sys.exit(main())
