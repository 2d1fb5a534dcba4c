"""The pictures of the last seconds, for clips that begin before their rule fired."""

from __future__ import annotations

from collections import deque


class Ring:
    """The last ``seconds`` as JPEGs, at most ``max_bytes`` of them. The oldest go first."""

    def __init__(self, seconds: float, max_bytes: float) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._items: deque[tuple[float, bytes]] = deque()
        self.bytes = 0

    def add(self, time_s: float, jpeg: bytes) -> None:
        """Add the picture of monotonic ``time_s``."""
        self._items.append((time_s, jpeg))
        self.bytes += len(jpeg)

        oldest_s = time_s - self._seconds
        while self._items and (self.bytes > self._max_bytes or self._items[0][0] < oldest_s):
            _, dropped = self._items.popleft()
            self.bytes -= len(dropped)

    def since(self, time_s: float) -> list[tuple[float, bytes]]:
        """(monotonic seconds, JPEG) from ``time_s`` on, oldest first."""
        return [item for item in self._items if item[0] >= time_s]
