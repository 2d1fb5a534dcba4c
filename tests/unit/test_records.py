"""A record is one line of strict JSON that the published schema accepts."""

from __future__ import annotations

import dataclasses
import json

import jsonschema
import pytest

from edge_runtime.records import LabelRecord, LabelScore, StageTimes, json_schema, utc_iso


def record(**changes: object) -> LabelRecord:
    plain = LabelRecord(
        seq=3,
        time=utc_iso(1_700_000_000.4567),
        mono_s=12.5,
        boot_id="b",
        camera="/dev/video0",
        modality="rgb",
        state="ok",
        labels=(LabelScore('a "quoted"\tname', 0.75, 0.5, True),),
        ms=StageTimes(1.0, 2.0, 0.5, 20.0, 0.1, 22.6),
        fps=29.9,
        dropped=0,
        rss_mb=80.1,
        pss_mb=None,
        temp_c=None,
        throttled=None,
        bundle="tiny-1.0.0",
        labels_id="sha256:00",
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def test_a_record_is_one_line_and_fits_the_schema():
    line = record(file="a/b.png").to_json()
    assert "\n" not in line
    jsonschema.validate(json.loads(line), json_schema())


def test_file_is_there_only_for_pictures():
    assert "file" not in record().to_dict()
    assert record(file="x.png").to_dict()["file"] == "x.png"


def test_nan_never_becomes_json():
    with pytest.raises(ValueError, match="JSON"):
        record(mono_s=float("nan")).to_json()


def test_the_schema_refuses_what_is_not_a_record():
    for change in ({"state": "fine"}, {"seq": -1}, {"extra": 1}, {"labels": [{"name": "x"}]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**record().to_dict(), **change}, json_schema())


def test_wall_time_is_utc_with_milliseconds():
    assert utc_iso(1_700_000_000.4567) == "2023-11-14T22:13:20.456Z"
