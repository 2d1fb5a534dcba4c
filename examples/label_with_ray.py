"""Label pictures on many machines with Ray Data: one bundle and pipeline, one process per core.

    pip install 'edge-label[parquet]' 'ray[data]'
    python examples/label_with_ray.py s3://bucket/pictures s3://bucket/labels --labels road
    python examples/label_with_ray.py photos/ labels/ --local 2      # only here, two processes

The output is Parquet with the columns file, state, labels and embedding. The bundle must be at the
same path on every machine: install edge-label on each, or put the bundle on a shared file system.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from typing import Any

import numpy as np

import edge_runtime as edge

# Ray reports usage to its makers by default.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


class Labeller:
    """One per process: loads the bundle once, then labels batch after batch."""

    def __init__(self, bundle: str | None, labels: str) -> None:
        self._labeller = edge.load(bundle, labels=labels, threads=1)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """``bytes`` and ``path`` of encoded pictures -> columns with a value for each picture.

        The state of a picture that cannot be decoded is ``invalid``.
        """
        pairs = zip(batch["path"], batch["bytes"], strict=True)
        rows = [self._row(str(path), data) for path, data in pairs]

        return {column: [row[column] for row in rows] for column in rows[0]}

    def _row(self, path: str, data: bytes) -> dict[str, Any]:
        import cv2

        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:  # an empty file, or more pixels than OpenCV takes
            pixels = None

        if pixels is None:
            return {"file": path, "state": "invalid", "labels": [], "embedding": None}

        frame = edge.Frame(pixels, "bgr", time.monotonic(), time.time(), file=path)
        labelled = self._labeller.process(frame)

        return {
            "file": path,
            "state": labelled.record.state,
            "labels": [dataclasses.asdict(label) for label in labelled.record.labels],
            "embedding": labelled.embedding,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pictures", help="folder of pictures: a path, s3:// or gs:// URL")
    parser.add_argument("output", help="folder for Parquet: a path or URL")
    parser.add_argument("--bundle", help="bundle directory, the same on every machine")
    parser.add_argument("--labels", default="everyday")
    parser.add_argument(
        "--processes", type=int, default=0, help="how many label at once (default: one per CPU)"
    )
    parser.add_argument(
        "--local", type=int, metavar="N", help="no cluster: N processes on this machine"
    )
    options = parser.parse_args()

    import ray

    if options.local:
        ray.init(
            address="local",
            num_cpus=options.local + 1,
            include_dashboard=False,
            log_to_driver=False,
        )
    else:
        ray.init()

    processes = options.processes or options.local or int(ray.cluster_resources()["CPU"])
    pictures = ray.data.read_binary_files(options.pictures, include_paths=True)
    labelled = pictures.map_batches(
        Labeller,
        fn_constructor_kwargs={"bundle": options.bundle, "labels": options.labels},
        batch_size=64,
        compute=ray.data.ActorPoolStrategy(size=processes),
    )
    labelled.write_parquet(options.output)
    ray.shutdown()


if __name__ == "__main__":
    main()
