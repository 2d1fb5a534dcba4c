"""Resident memory of the arm64 service, without the emulator's own. Runs in the userland.

    python -m tools.arm64.userland run tools/arm64/guest_memory.py BUNDLE PICTURES

Runs `edge-label run` on a folder of pictures, reads the resident memory after each frame, and
prints the highest reading as JSON. /proc/self/smaps is the host's and counts qemu's translation
cache too. /proc/self/maps is qemu's translation of the guest's address space. What is in both is
the guest's.
"""

import json
import os
import sys

KB = 1024


def _guest_ranges() -> list[list[int]]:
    """[start, end] of the guest's address ranges, with neighbours joined."""
    joined: list[list[int]] = []
    # Line by line, because reading the whole file would cost memory of the kind it measures.
    with open("/proc/self/maps") as maps:  # noqa: PTH123
        for line in maps:
            start, end = (int(part, 16) for part in line.split(None, 1)[0].split("-"))
            if joined and joined[-1][0] <= start <= joined[-1][1]:
                joined[-1][1] = max(end, joined[-1][1])
            else:
                joined.append([start, end])
    return joined


def guest_rss_mb() -> dict[str, float]:
    """MB (1e6 bytes) resident in the guest's pages: `total`, `anonymous` and `file`."""
    guest = _guest_ranges()
    share = 0.0
    total = 0.0
    anonymous = 0.0
    with open("/proc/self/smaps") as smaps:  # noqa: PTH123
        for line in smaps:
            word, rest = line.split(None, 1)
            if not word.endswith(":"):
                start, end = (int(part, 16) for part in word.split("-"))
                # A range of the host may be the guest's only in part.
                share = sum(max(0, min(end, b) - max(start, a)) for a, b in guest) / (end - start)
            elif word == "Rss:":
                total += share * int(rest.split()[0]) * KB / 1e6
            elif word == "Anonymous:":
                anonymous += share * int(rest.split()[0]) * KB / 1e6
    return {
        "total": round(total, 2),
        "anonymous": round(anonymous, 2),
        "file": round(total - anonymous, 2),
    }


def main() -> None:
    from edge_runtime.cli import main as edge_label
    from edge_runtime.pipeline import Pipeline
    from edge_runtime.system import memory

    # qemu runs translated code and does not read the guest's pages of code again. So code that the
    # runtime unmaps after start-up would never count here again, even if it is in use. MADV_NORMAL
    # unmaps nothing, which makes the figure an upper bound; tools.arm64.machine measures the rest.
    memory._MADV_DONTNEED = 0

    peak = {"total": 0.0}
    process = Pipeline.process

    def watched(self, frame):  # noqa: ANN001, ANN202
        nonlocal peak
        record = process(self, frame)
        peak = max(peak, guest_rss_mb(), key=lambda reading: reading["total"])
        return record

    Pipeline.process = watched  # type: ignore[method-assign]

    bundle, pictures = sys.argv[1:]
    options = ["--bundle", bundle, "--camera", pictures, "--threads", "4", "--output", os.devnull]
    status = edge_label(options)
    print(json.dumps(peak))
    sys.exit(status)


if __name__ == "__main__":
    main()
