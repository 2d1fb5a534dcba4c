"""Records of a made-up drive, as lines of a run."""

from __future__ import annotations

from edge_runtime.records import LabelScore, StageTimes
from tests.unit.test_records import record


def line(seq: int, *on: str, **changes: object) -> str:
    labels = (
        *(LabelScore(name, 0.9, 0.5, True) for name in on),
        LabelScore("off", 0.1, -0.8, False),
    )
    changes = {
        "mono_s": 50 + seq / 10,
        "state": "ok" if on else "unknown",
        "labels": labels,
        **changes,
    }
    return record(seq=seq, **changes).to_json()


def drive() -> list[str]:
    """Ten seconds: snow from 2 to 5 s, a tunnel from 4 to 6 s, snow again at 8 s for one frame."""
    names = [
        ("snow",) * (20 <= i < 50 or i == 80) + ("tunnel",) * (40 <= i < 60) for i in range(100)
    ]
    return [
        line(i, *on, dropped=i // 10, ms=StageTimes(1, 2, 1, 20, 0, 20 + i / 10))
        for i, on in enumerate(names)
    ]
