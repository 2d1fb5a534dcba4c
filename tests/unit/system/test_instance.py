"""Several cameras on one machine have different folders and names, and share its cores."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from edge_runtime.config.outputs import MqttConfig
from edge_runtime.model.encoder import default_threads
from edge_runtime.system.instance import instance, service_folder


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(4)))
    monkeypatch.setattr(platform, "node", lambda: "pi")


def test_the_only_service_has_all_cores_and_the_host_s_name(
    cores: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("EDGE_LABEL_INSTANCE", raising=False)
    assert instance() == ""
    assert default_threads() == 4
    assert MqttConfig("broker").device == "pi"


def test_one_of_several_has_half_of_the_cores_and_a_name_of_its_own(
    cores: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("EDGE_LABEL_INSTANCE", "front")
    assert default_threads() == 2
    assert MqttConfig("broker").device == "pi-front"


def test_an_instance_on_a_single_core_has_a_thread(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EDGE_LABEL_INSTANCE", "front")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0})
    assert default_threads() == 1


@pytest.mark.parametrize(
    ("config", "folder"),
    [
        (None, "/var/lib/edge-label"),
        ("/etc/edge-label/edge-label.yaml", "/var/lib/edge-label"),
        ("/etc/edge-label/front.yaml", "/var/lib/edge-label-front"),
        ("front.yaml", "/var/lib/edge-label"),
    ],
)
def test_each_configuration_of_a_service_has_its_folder(config: str | None, folder: str):
    assert service_folder(config) == Path(folder)
