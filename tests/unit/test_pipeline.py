"""The pipeline turns every frame into a record, whatever is wrong with the frame."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from edge_runtime.config import ModelConfig
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import Frame, json_schema
from edge_runtime.service import load_engine


@pytest.fixture
def pipeline(tiny_bundle: Path) -> Pipeline:
    return Pipeline(load_engine(ModelConfig(bundle=str(tiny_bundle), labels="colours", threads=1)), camera="test")


def coloured(*bgr: int) -> Frame:
    return Frame(np.full((48, 64, 3), bgr, np.uint8), "bgr", 5.0, 1.7e9)


@pytest.mark.parametrize(("bgr", "name"), [((0, 0, 255), "red"), ((0, 255, 0), "green"), ((255, 0, 0), "blue")])
def test_a_coloured_picture_gets_the_word_for_its_colour(pipeline: Pipeline, bgr: tuple[int, ...], name: str):
    record = pipeline.process(coloured(*bgr))
    assert record.state == "ok"
    assert [s.name for s in record.labels if s.on] == [name]
    jsonschema.validate(json.loads(record.to_json()), json_schema())


def test_nothing_to_say_is_said_as_unknown(pipeline: Pipeline):
    record = pipeline.process(coloured(90, 90, 90))
    assert record.state == "unknown"
    assert record.labels


def test_a_broken_jpeg_is_invalid_and_the_next_frame_is_fine(pipeline: Pipeline):
    record = pipeline.process(Frame(np.zeros(100, np.uint8), "mjpg", 5.0, 1.7e9))
    assert (record.state, record.labels) == ("invalid", ())
    assert pipeline.process(coloured(0, 0, 255)).state == "ok"


def test_seq_has_no_gaps_and_times_add_up(pipeline: Pipeline):
    records = [pipeline.process(coloured(0, 0, 255)) for _ in range(5)]
    assert [r.seq for r in records] == [0, 1, 2, 3, 4]
    for r in records:
        assert r.ms.total == pytest.approx(r.ms.decode + r.ms.preprocess + r.ms.encode + r.ms.score, abs=0.05)
