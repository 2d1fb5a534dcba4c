"""Smooths labels over time: votes of frames become labels that do not flap.

Every frame votes for the labels that are on in it. The share of a label is the smoothed fraction of
frames that voted for it. A label wins its group when its share reaches ``on_share``, and loses it
when its share falls to ``off_share`` (hysteresis). No group changes twice within ``min_dwell_s``.

    exponential:  share <- share + (1 - exp(-dt / tau)) (vote - share), at any frame rate
    k_of_n:       share = votes in the last n frames / n, on_share = k / n
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
    """Called with the votes of each frame. Keeps a share per label and a winner per group."""

    def __init__(
        self, config: ConsensusConfig, names: Sequence[str], groups: Sequence[slice]
    ) -> None:
        """``groups`` are slices of ``names``: the labels that compete with each other."""
        self._config = config
        self._names = names
        self._groups = groups

        # float32 as the shares are: NumPy 1 compares in float64, where 7 of 10 votes is under 0.7.
        k_of_n = config.method == "k_of_n"
        self._on_share = np.float32(config.k / config.n if k_of_n else config.on_share)
        self._off_share = np.float32(1 - config.k / config.n if k_of_n else config.off_share)

        self._share: NDArray[np.float32] = np.zeros(len(names), np.float32)
        self._last_votes: deque[Votes] = deque(maxlen=config.n)
        self._last_time_s: float | None = None
        self._winner: list[int | None] = [None] * len(groups)
        self._changed_s: list[float | None] = [None] * len(groups)

    def __call__(self, votes: Votes, now_s: float) -> tuple[Votes, tuple[LabelEvent, ...]]:
        """Which labels are on now, and which of them went on or off with this frame.

        Args:
            votes: The labels that are on in the frame, bool (labels,).
            now_s: Time of the frame in seconds, on any clock that does not go back.

        Returns:
            on: bool (labels,), at most one label in each group.
            events: What changed, in the order of the groups.
        """
        if self._config.method == "off":
            return votes, ()

        self._update_shares(votes, now_s)
        on = np.zeros_like(votes)
        events: list[LabelEvent] = []
        for i in range(len(self._groups)):
            events += self._update_group(i, now_s)
            winner = self._winner[i]
            if winner is not None:
                on[winner] = True

        return on, tuple(events)

    def _update_shares(self, votes: Votes, now_s: float) -> None:
        if self._config.method == "k_of_n":
            self._last_votes.append(votes)
            share = np.sum(self._last_votes, axis=0) / self._config.n
            self._share = np.asarray(share, np.float32)
            return

        # The first frame counts as much as tau_s of frames: 1 - 1/e = 0.63 is above the default
        # on_share, so a label can be on at once.
        elapsed_s = self._config.tau_s
        if self._last_time_s is not None:
            elapsed_s = max(0.0, now_s - self._last_time_s)
        self._last_time_s = now_s

        weight = np.float32(1 - math.exp(-elapsed_s / self._config.tau_s))
        self._share += weight * (votes - self._share)

    def _update_group(self, i: int, now_s: float) -> list[LabelEvent]:
        """Give group ``i`` its new winner; the events of the old and of the new one."""
        old = self._winner[i]
        new = self._best_label(old, self._groups[i])
        changed_s = self._changed_s[i]
        if new == old:
            return []
        if changed_s is not None and now_s - changed_s < self._config.min_dwell_s:
            return []

        self._winner[i] = new
        self._changed_s[i] = now_s
        lasted_s = None if changed_s is None else round(now_s - changed_s, 3)
        return [
            LabelEvent(self._names[label], label == new, lasted_s)
            for label in (old, new)
            if label is not None
        ]

    def _best_label(self, old: int | None, group: slice) -> int | None:
        """The label that reached ``on_share``, else the old one until it fell to ``off_share``."""
        best = int(group.start + self._share[group].argmax())
        if best != old and self._share[best] >= self._on_share:
            return best
        if old is not None and self._share[old] <= self._off_share:
            return None
        return old
