"""A Dockerfile's instructions, for tests that do without Docker."""

from __future__ import annotations

import json
import re
from pathlib import Path


class Dockerfile:
    """Instructions in order, continuation lines joined, comments left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
        self._instructions = [line.split(None, 1) for line in joined.splitlines() if line.strip()]

    def all(self, instruction: str) -> list[str]:
        """The arguments of every such instruction."""
        return [rest for name, rest in self._instructions if name == instruction]

    def json(self, instruction: str) -> list[str]:
        """The words of the last such instruction, written in its JSON form."""
        words: list[str] = json.loads(self.all(instruction)[-1])
        return words

    def health_command(self) -> list[str]:
        """The words after CMD of HEALTHCHECK."""
        words: list[str] = json.loads(self.all("HEALTHCHECK")[-1].split("CMD", 1)[1])
        return words
