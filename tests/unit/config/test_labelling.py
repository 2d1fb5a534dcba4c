"""Numbers outside their range are refused with the key and the range."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from edge_runtime.config import (
    CameraConfig,
    ConsensusConfig,
    PrivacyConfig,
    ThermalConfig,
    load_config,
)
from edge_runtime.errors import ConfigError


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        (CameraConfig, "width", 8, "camera.width must be between 16 and 8192, not 8"),
        (CameraConfig, "max_fps", 0.5, "camera.max_fps must be between 1 and 240"),
        (CameraConfig, "fps", math.nan, "camera.fps must be between"),
        (ConsensusConfig, "k", 4, "consensus.k must be more than half of n"),
        (ConsensusConfig, "off_share", 0.6, "consensus.off_share must be below on_share"),
        (ThermalConfig, "limit_c", 200, "thermal.limit_c must be between 30 and 120"),
        (CameraConfig, "rotate", 45, "camera.rotate must be one of 0, 90, 180, 270, not 45"),
        (CameraConfig, "flip", "both", "camera.flip must be one of None, horizontal, vertical"),
    ],
)
def test_a_number_out_of_range_is_refused(section: type, key: str, value: float, message: str):
    with pytest.raises(ValueError, match=f"^{message}"):
        section(**{key: value})


@pytest.mark.parametrize(
    ("region", "masks"),
    [
        ((0.5, 0.0, 0.6, 1.0), ()),
        ((0.0, 0.0, 0.0, 1.0), ()),
        ((0.0, 0.0, 320.0, 240.0), ()),
        (None, (((0.0, 0.0), (1.0, 1.0)),)),
        (None, (((0.0, 0.0), (1.0, 1.0), (0.0, 2.0)),)),
    ],
)
def test_a_region_or_a_mask_outside_the_picture_is_refused(region, masks):
    with pytest.raises(ValueError, match="privacy"):
        PrivacyConfig(region, masks)


@pytest.mark.fault("G4")
@pytest.mark.parametrize("labels", ["[cat, dog]", "{labels: [cat, dog]}"])
def test_words_in_the_configuration_itself_are_told_where_they_belong(tmp_path: Path, labels: str):
    path = tmp_path / "edge-label.yaml"
    path.write_text(f"model:\n  labels: {labels}\n")
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(error.value) == (
        f"{path}:2: model.labels must be text; name a label set of the bundle (labels: road), or "
        "a file with this list (labels: /etc/edge-label/my.yaml)"
    )
