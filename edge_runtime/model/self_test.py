"""A trial run of a bundle before it is used: read it, encode one picture, compare with the bank.

``self_test`` runs in this process, ``self_test_in_child`` in one of its own with limits and no
rights. A hostile or broken graph may take all memory, hang or crash: a bundle from outside is tried
there first. ``python -m edge_runtime.model.self_test DIR`` is that child.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from edge_runtime.errors import BundleError, EdgeLabelError
from edge_runtime.model.bundle import Bundle, load_bundle
from edge_runtime.system import child

CPU_S = 60
WALL_S = 120
DATA_BYTES = 3 << 29  # 1.5 GB: enough for a ViT-B/32 tower in float32, too little for a bomb
NOBODY = 65534
REFUSED = "it must not be installed"


def self_test(bundle: Bundle) -> None:
    """Read every file, encode one picture of noise, and compare it with the bank.

    Raises BundleError.
    """
    # Imported late: `bundle install` needs only the child, and root should not load ONNX Runtime.
    from edge_runtime.model.encoder import Encoder
    from edge_runtime.model.labels.label_set import load_label_set
    from edge_runtime.model.labels.text_bank import TextBank

    bundle.verify()

    shape = bundle.manifest.input.shape
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    embedding = Encoder(bundle, threads=1)(picture)
    if not np.isfinite(embedding).all() or abs(float(embedding @ embedding) - 1) > 1e-3:
        raise BundleError(f"{bundle.path}: its encoder gives no unit-norm embedding", REFUSED)

    for name in bundle.label_sets():
        load_label_set(name, bundle)

    cosines = TextBank.from_bundle(bundle).rows.astype(np.float32) @ embedding
    if not np.isfinite(cosines).all():
        raise BundleError(f"{bundle.path}: its text bank does not fit its encoder", REFUSED)


def self_test_in_child(path: Path) -> None:
    """``self_test`` in a process that can do no harm.

    Raises BundleError, also for a crash or a hang.
    """
    command = child.command("edge_runtime.model.self_test", str(path))
    try:
        outcome = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, errors="replace", timeout=WALL_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BundleError(f"{path}: its self-test takes more than {WALL_S} s", REFUSED) from error

    if outcome.returncode < 0:
        name = signal.Signals(-outcome.returncode).name
        raise BundleError(f"{path}: its self-test was ended by {name}", REFUSED)
    if outcome.returncode:
        reason = child.last_line(outcome.stderr) or f"its self-test fails; {REFUSED}"
        raise BundleError(f"{path}: {reason}")


def _main(path: str) -> int:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_DATA, (DATA_BYTES, DATA_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    try:
        # As a user without rights this process may not walk the path again; it stands in the
        # folder.
        os.chdir(path)
        _become_nobody()
        self_test(load_bundle(Path()))
    except EdgeLabelError as error:
        # Here the bundle is ".". The parent puts its path in front of the line.
        sys.stderr.write(f"{str(error).removeprefix('.: ')}\n")
        return error.exit_code
    except MemoryError:
        sys.stderr.write(f"needs more than {DATA_BYTES >> 20} MB; {REFUSED}\n")
        return BundleError.exit_code
    return 0


def _become_nobody() -> None:
    """Give up root, if this is root: what a hostile graph takes over can then only read."""
    # Whatever the self-test imports or opens late is loaded now: nobody cannot read a library that
    # is installed in root's home.
    import numpy.random

    from edge_runtime.model import encoder
    from edge_runtime.model.labels.label_set import parse_label_set

    numpy.random.default_rng(0)
    encoder.session_options(1)
    parse_label_set(b"labels: [rehearsal]".decode("utf-8-sig"), "rehearsal")

    if os.geteuid() != 0:
        return

    try:
        # Groups first: without root they could not be changed any more.
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError as error:
        raise BundleError(
            f"the self-test cannot give up root: {error.strerror}", "install as an ordinary user"
        ) from error


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
