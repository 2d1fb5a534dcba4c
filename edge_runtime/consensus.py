"""From what each frame says to what is so: votes over time, a winner a group, no flapping.

Every frame votes for the labels that are on in it. A label's share is the smoothed part of votes it got; it takes
its group at ``on_share``, loses it at ``off_share`` (hysteresis), and no group changes twice within ``min_dwell_s``.

    exponential:  share <- share + (1 - exp(-dt / tau)) (vote - share), whatever the frame rate
    k_of_n:       share = votes among the last n frames / n, on_share = k / n
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.config import ConsensusConfig
from edge_runtime.records import LabelEvent

Votes = NDArray[np.bool_]


class Consensus:
    """Called with the votes of each frame; keeps no more than a share a label and a winner a group."""

    def __init__(
        self, config: ConsensusConfig, names: Sequence[str], groups: Sequence[slice]
    ) -> None:
        self._config = config
        self._names = names
        self._groups = groups
        k_of_n = config.method == "k_of_n"
        # float32 as the shares are: NumPy 1 compares in float64, where 7 of 10 votes are less than 0.7.
        self._on_share = np.float32(config.k / config.n if k_of_n else config.on_share)
        self._off_share = np.float32(1 - config.k / config.n if k_of_n else config.off_share)
        self._share: NDArray[np.float32] = np.zeros(len(names), np.float32)
        self._last: deque[Votes] = deque(maxlen=config.n)
        self._time: float | None = None
        self._winner: list[int | None] = [None] * len(groups)
        self._since: list[float | None] = [None] * len(groups)  # when the group last changed

    def __call__(self, votes: Votes, now_s: float) -> tuple[Votes, tuple[LabelEvent, ...]]:
        """The votes of one frame at ``now_s``, bool (labels,) -> what is on, bool (labels,), and what that changed."""
        if self._config.method == "off":
            return votes, ()

        self._update(votes, now_s)
        on = np.zeros_like(votes)
        events: list[LabelEvent] = []
        for i, group in enumerate(self._groups):
            old = self._winner[i]
            new = self._decide(old, group)
            since = self._since[i]
            if new != old and (since is None or now_s - since >= self._config.min_dwell_s):
                lasted = None if since is None else round(now_s - since, 3)
                events += [
                    LabelEvent(self._names[k], k == new, lasted)
                    for k in (old, new)
                    if k is not None
                ]
                self._winner[i] = new
                self._since[i] = now_s
            winner = self._winner[i]
            if winner is not None:
                on[winner] = True

        return on, tuple(events)

    def _update(self, votes: Votes, now_s: float) -> None:
        if self._config.method == "k_of_n":
            self._last.append(votes)
            self._share = np.asarray(np.sum(self._last, axis=0) / self._config.n, np.float32)
            return
        # The first frame is believed at once: 1 - 1 / e is above any sensible on_share.
        elapsed = self._config.tau_s if self._time is None else max(0.0, now_s - self._time)
        self._time = now_s
        self._share += np.float32(1 - math.exp(-elapsed / self._config.tau_s)) * (
            votes - self._share
        )

    def _decide(self, old: int | None, group: slice) -> int | None:
        """Who should have the group now: a label whose share takes it, else the old one until its share loses it."""
        best = group.start + int(self._share[group].argmax())
        if best != old and self._share[best] >= self._on_share:
            return int(best)
        if old is not None and bool(self._share[old] <= self._off_share):
            return None
        return old
