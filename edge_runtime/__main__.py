"""``edge-label``, and ``python -m edge_runtime``."""

import os
import sys

from edge_runtime.daemon.signals import Signals


def main() -> int:
    """Catch signals before anything is loaded: a service manager does not wait for Python."""
    signals = Signals()

    # The threads of NumPy's BLAS wait in a loop for work that lasts microseconds: `labels learn`
    # then needs forty times the processor. NumPy reads this when it is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from edge_runtime import cli

    return cli.main(signals=signals)


if __name__ == "__main__":
    sys.exit(main())
