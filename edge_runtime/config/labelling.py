"""What labels a frame: the camera, the model, privacy, consensus and heat."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from edge_runtime.config.checks import check_choice, check_range
from edge_runtime.records import Degrees, Flip, Turn, WantedModality


@dataclass(frozen=True, slots=True)
class CameraConfig:
    """Where frames come from."""

    # The short form of this section: `camera: /dev/video0`.
    source: str = field(default="/dev/video0", metadata={"short": True})
    width: int = 640
    height: int = 480
    fps: float = 30
    fourcc: Literal["auto", "MJPG", "YUYV", "YU12", "GREY", "Y16"] = "auto"
    rtsp_transport: Literal["tcp", "udp"] = "tcp"
    rotate: Degrees = 0
    flip: Flip | None = None
    max_fps: float | None = None
    realtime: bool = False
    loop: bool = False
    exit_on_error: bool = False
    frozen_frames: int = 90
    stuck_s: float = 30.0

    def __post_init__(self) -> None:
        check_range("camera.width", self.width, 16, 8192)
        check_range("camera.height", self.height, 16, 8192)
        check_range("camera.fps", self.fps, 0.01, 240)
        if self.max_fps is not None:
            check_range("camera.max_fps", self.max_fps, 1, 240)
        check_range("camera.frozen_frames", self.frozen_frames, 0, 1_000_000)
        check_range("camera.stuck_s", self.stuck_s, 10, 3600)
        check_choice("camera.rotate", self.rotate, get_args(Degrees))
        check_choice("camera.flip", self.flip, (None, *get_args(Flip)))

    @property
    def turn(self) -> Turn | None:
        """What makes the camera's pictures upright; None where they are."""
        return Turn(self.rotate, self.flip) if self.rotate or self.flip else None


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The model bundle, and the labels that it looks for."""

    bundle: str | None = None
    labels: str = field(
        default="everyday",
        metadata={
            "advice": "name a label set of the bundle (labels: road), or a file with this list "
            "(labels: /etc/edge-label/my.yaml)"
        },
    )
    modality: WantedModality = "auto"
    threads: int | None = None
    top_k: int = 10

    def __post_init__(self) -> None:
        if self.threads is not None:
            check_range("model.threads", self.threads, 1, 64)
        check_range("model.top_k", self.top_k, 1, 1000)


@dataclass(frozen=True, slots=True)
class PrivacyConfig:
    """Which part of the picture may be used. Numbers are fractions of its width and height."""

    region: tuple[float, float, float, float] | None = None  # left, top, width, height
    masks: tuple[tuple[tuple[float, float], ...], ...] = ()  # polygons of (x, y) corners

    def __post_init__(self) -> None:
        numbers = list(self.region or ())
        for polygon in self.masks:
            for corner in polygon:
                numbers += corner
        if any(not 0 <= number <= 1 for number in numbers):
            raise ValueError(
                "privacy: corners and regions are fractions of the picture, between 0 and 1"
            )

        if self.region is not None:
            self._check_region(*self.region)
        if any(len(polygon) < 3 for polygon in self.masks):
            raise ValueError("privacy.masks: a polygon needs at least three [x, y] corners")

    def _check_region(self, left: float, top: float, width: float, height: float) -> None:
        if width <= 0 or height <= 0 or left + width > 1 or top + height > 1:
            raise ValueError("privacy.region must be [left, top, width, height] inside the picture")


@dataclass(frozen=True, slots=True)
class ConsensusConfig:
    """How many frames must agree before a label is on or off, so that labels do not flap."""

    method: Literal["exponential", "k_of_n", "off"] = "exponential"
    tau_s: float = 0.6
    k: int = 6
    n: int = 9
    on_share: float = 0.6
    off_share: float = 0.25
    min_dwell_s: float = 1.0

    def __post_init__(self) -> None:
        check_range("consensus.tau_s", self.tau_s, 0.01, 600)
        check_range("consensus.n", self.n, 1, 1000)
        check_range("consensus.on_share", self.on_share, 0.5, 0.99)
        check_range("consensus.min_dwell_s", self.min_dwell_s, 0, 3600)

        # More than half, so that no two labels of a group can both reach it.
        if not self.n / 2 < self.k <= self.n:
            raise ValueError(
                f"consensus.k must be more than half of n ({self.n}) and at most n, not {self.k}"
            )
        if not 0 <= self.off_share < self.on_share:
            raise ValueError(
                f"consensus.off_share must be below on_share ({self.on_share}), "
                f"not {self.off_share}"
            )


@dataclass(frozen=True, slots=True)
class ThermalConfig:
    """When to label fewer frames, so that the processor stays under its limit."""

    limit_c: float | None = 80.0
    zones: str = "/sys/class/thermal"

    def __post_init__(self) -> None:
        if self.limit_c is not None:
            check_range("thermal.limit_c", self.limit_c, 30, 120)
