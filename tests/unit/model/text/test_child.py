"""The child answers with one JSON line and an array, whatever a library prints."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import numpy as np

from edge_runtime.model.npy import read_embeddings
from tests.daemon import REPOSITORY

NOISY = """
    import sys
    import numpy as np
    from edge_runtime.model.text import child

    def noisy(encoder):
        print("loading, please wait")
        return lambda phrases: np.ones((len(phrases), 4), np.float32), "a tower", False

    child._open = noisy
    sys.exit(child.main())
"""


def test_what_a_library_prints_is_no_part_of_the_answer():
    command = [sys.executable, "-c", textwrap.dedent(NOISY), "an encoder"]
    done = subprocess.run(
        command, input=b'["a", "b"]', capture_output=True, check=True, cwd=REPOSITORY
    )
    head, _, array = done.stdout.partition(b"\n")
    assert json.loads(head) == {"encoder": "a tower", "approximate": False}
    assert np.allclose(read_embeddings(array, "answer"), 0.5)
    assert b"please wait" in done.stderr
