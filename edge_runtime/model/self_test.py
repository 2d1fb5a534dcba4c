"""Does a bundle do at all what a bundle must? ``python -m edge_runtime.model.self_test DIR`` asks in a process of its
own, with limits, because a hostile or broken graph may take all memory, hang or crash.
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
NOBODY = 65534
DATA_BYTES = 3 << 29  # 1.5 GB: a ViT-B/32 tower in float32 passes, a bomb does not


def self_test(bundle: Bundle) -> None:
    """Read everything, encode one picture, compare it with the bank. Raises BundleError."""
    from edge_runtime.model.encoder import Encoder
    from edge_runtime.model.labels.label_set import load_label_set
    from edge_runtime.model.labels.text_bank import TextBank

    bundle.verify()
    spec = bundle.manifest.input
    picture = np.random.default_rng(0).integers(0, 256, spec.shape, np.uint8)
    embedding = Encoder(bundle, threads=1)(picture)
    if not np.isfinite(embedding).all() or abs(float(embedding @ embedding) - 1) > 1e-3:
        raise BundleError(
            f"{bundle.path}: its encoder gives no unit-norm embedding", "it must not be installed"
        )
    for name in bundle.label_sets():
        load_label_set(name, bundle)
    cosines = TextBank.from_bundle(bundle).rows.astype(np.float32) @ embedding
    if not np.isfinite(cosines).all():
        raise BundleError(
            f"{bundle.path}: its text bank does not fit its encoder", "it must not be installed"
        )


def self_test_in_child(path: Path) -> None:
    """``self_test`` where it can do no harm. Raises BundleError, a crash or a hang included."""
    command = child.command("edge_runtime.model.self_test", str(path))
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, errors="replace", timeout=WALL_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise BundleError(
            f"{path}: its self-test takes more than {WALL_S} s", "it must not be installed"
        ) from None
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise BundleError(f"{path}: its self-test was ended by {name}", "it must not be installed")
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise BundleError(
            f"{path}: {lines[-1] if lines else 'its self-test fails; it must not be installed'}"
        )


def _main(path: str) -> int:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_DATA, (DATA_BYTES, DATA_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        os.chdir(path)
        _become_nobody()
        self_test(load_bundle(Path()))
    except EdgeLabelError as error:
        sys.stderr.write(f"{str(error).removeprefix('.: ')}\n")
        return error.exit_code
    except MemoryError:
        sys.stderr.write(f"needs more than {DATA_BYTES >> 20} MB; it must not be installed\n")
        return 78
    return 0


def _become_nobody() -> None:
    """A stranger's model is read with no rights but to read: what root must not lose, the process cannot reach."""
    # Now, for nobody could not read a library that lies in root's home: whatever the self-test loads late.
    import numpy.random

    from edge_runtime.model import encoder
    from edge_runtime.model.labels.label_set import parse_label_set

    numpy.random.default_rng(0)
    encoder.session_options(1)
    parse_label_set(b"labels: [rehearsal]".decode("utf-8-sig"), "rehearsal")

    if os.geteuid() != 0:
        return
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError as error:
        raise BundleError(
            f"the self-test cannot give up root: {error.strerror}", "install as an ordinary user"
        ) from None


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
