"""What a check is asked, and what it answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from edge_runtime.config import Config

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Options:
    """What the checks look at; they travel to the processes of the checks as JSON."""

    camera: str = "/dev/video0"
    bundle: str | None = None
    output: str | None = None
    labels: str | None = None
    camera_settings: dict[str, Any] = field(default_factory=dict)  # the section but for its source
    config: str | None = None

    @classmethod
    def of(cls, config: Config, file: str | None) -> Options:
        """What a configuration names; ``file`` is where it was read, None for the command line."""
        settings = asdict(config.camera)
        return cls(
            camera=settings.pop("source"),
            bundle=config.model.bundle,
            output=config.output.file,
            labels=config.model.labels if file else None,
            camera_settings=settings,
            config=file,
        )


class Answer(NamedTuple):
    """One sentence of a check; ``advice`` says what to do where something can be done."""

    level: Level
    text: str
    advice: str = ""


def ok(text: str) -> Answer:
    """As it should be."""
    return Answer("ok", text)


def warn(text: str, advice: str) -> Answer:
    """edge-label runs, but not as well as it could."""
    return Answer("warn", text, advice)


def fail(text: str, advice: str) -> Answer:
    """edge-label does not run with this."""
    return Answer("fail", text, advice)
