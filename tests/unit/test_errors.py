"""An error message is one printable line whatever was in the input."""

from __future__ import annotations

from edge_runtime.errors import BundleError, ConfigError, EdgeLabelError


def test_control_characters_never_reach_the_terminal():
    assert str(EdgeLabelError("a\nb\x1b[31mc")) == "a\\x0ab\\x1b[31mc"


def test_a_bundle_error_must_not_be_restarted():
    assert BundleError("x").exit_code == ConfigError("x").exit_code == 78
