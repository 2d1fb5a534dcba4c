"""An error message is one printable line whatever was in the input."""

from __future__ import annotations

from edge_runtime.errors import BundleError, ConfigError, DataError, DeviceError, EdgeLabelError


def test_control_characters_never_reach_the_terminal():
    assert str(EdgeLabelError("a\nb\x1b[31mc")) == "a\\x0ab\\x1b[31mc"


def test_a_bundle_error_must_not_be_restarted():
    assert BundleError("x").exit_code == ConfigError("x").exit_code == 78


def test_an_error_carries_what_is_wrong_and_what_to_do_as_fields():
    error = DataError("x.jpg: not a JPEG", "fetch it again")
    assert (error.what, error.advice) == ("x.jpg: not a JPEG", "fetch it again")
    assert str(error) == "x.jpg: not a JPEG; fetch it again"


def test_a_place_can_be_put_in_front_and_everything_else_stays():
    error = DeviceError("busy", "stop the other program", state="busy")
    inside = error.within("/dev/video0")
    assert str(inside) == "/dev/video0: busy; stop the other program"
    assert (type(inside), inside.state, inside.advice) == (
        DeviceError,
        "busy",
        "stop the other program",
    )
    assert str(error) == "busy; stop the other program"
