"""Sinks are told of what a record can hold, and of nothing else."""

from __future__ import annotations

import errno
import signal
import socket
from pathlib import Path

import pytest

from edge_runtime.config import (
    Condition,
    Config,
    PreviewConfig,
    PrometheusConfig,
    TriggerRule,
    TriggersConfig,
)
from edge_runtime.errors import ConfigError
from edge_runtime.model.bundle import load_bundle
from edge_runtime.model.labels.compiled import compile_labels
from edge_runtime.model.labels.label_set import LabelSet, LabelSpec
from edge_runtime.model.labels.text_bank import TextBank
from edge_runtime.sinks import SinkContext, open_sinks
from tests.daemon import Daemon, write_config
from tests.doubles.ports import free_port


def runners_for(bundle: Path, config: Config):
    spec = (LabelSpec("red"), LabelSpec("green", background=True))
    opened = load_bundle(bundle)
    labels = compile_labels(LabelSet(spec), opened, TextBank.from_bundle(opened))
    context = SinkContext(labels, pytest.fail, lambda: "ok", pytest.fail, live=True)
    return open_sinks(config, context)


def test_a_trigger_on_a_background_label_is_refused_because_it_would_never_fire(
    tiny_bundle: Path, tmp_path: Path
):
    rule = TriggerRule(name="r", when=Condition(label="green"))
    config = Config(triggers=TriggersConfig(spool=str(tmp_path), rules=(rule,)))
    with pytest.raises(ConfigError, match="the label set has no 'green'"):
        runners_for(tiny_bundle, config)


def test_when_one_sink_cannot_be_made_those_made_before_it_are_closed(
    tiny_bundle: Path, tmp_path: Path
):
    """A refused reload must not leave its metrics served beside those of the old configuration."""
    port = free_port()
    rule = TriggerRule(name="r", when=Condition(label="no such label"))
    triggers = TriggersConfig(spool=str(tmp_path), rules=(rule,))
    with pytest.raises(ConfigError, match="no such label"):
        runners_for(
            tiny_bundle,
            Config(prometheus=PrometheusConfig(listen=f"127.0.0.1:{port}"), triggers=triggers),
        )
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_metrics_and_page_cannot_share_a_port():
    """They would share the socket, and each browser would get whichever server was faster."""
    with pytest.raises(ValueError, match="give one of them another port"):
        Config(
            prometheus=PrometheusConfig(listen="localhost:8080"),
            preview=PreviewConfig(listen="127.0.0.1:8080"),
        )


def test_a_reload_of_labels_that_a_rule_needs_is_refused(tiny_bundle: Path, tmp_path: Path):
    """The triggers did not change, so their sink stays; a rule on a lost label never fires."""
    rule = {"name": "r", "when": {"label": "red"}}
    triggers = {"spool": str(tmp_path / "spool"), "rules": [rule]}
    labels = tmp_path / "labels.yaml"
    labels.write_text("labels: [red, blue]")
    file = write_config(
        tmp_path / "c.yaml", tiny_bundle, triggers=triggers, model={"labels": str(labels)}
    )
    with Daemon(tmp_path, "--config", file) as daemon:
        daemon.wait_for("READY=1")
        labels.write_text("labels: [green, blue]")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("reload refused")
        assert "rule r: the label set has no 'red' to report" in daemon.log
        labels.write_text("labels: [red, green]")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("STATUS=reloaded")
        assert daemon.stop() == 0
