"""The hook gets every capture, stalls nothing, and fails in one line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edge_runtime.config import Config
from edge_runtime.errors import ConfigError
from edge_runtime.records import LabelledFrame
from edge_runtime.sinks.triggers.capture import Capture
from edge_runtime.sinks.triggers.hook import Hook
from edge_runtime.system import strict_yaml
from tests.daemon import wait_until
from tests.unit.sinks.triggers.harness import at, feed, make, rule, script, sidecars


def test_a_hook_that_is_not_there_is_said_at_the_start(tmp_path: Path):
    with pytest.raises(ConfigError, match="no such program"):
        make(tmp_path, rule(), hook=("/no/such/program",))


def test_the_hook_gets_each_capture_as_arguments_without_a_shell(tmp_path: Path):
    log = tmp_path / "log"
    hook = (
        script(tmp_path, f'for a in "$@"; do echo "$a" >> {log}; done'),
        "$(touch owned)",
        "a; b",
    )
    sink = make(tmp_path, rule(), hook=hook)
    feed(sink, *at(0, snowy_road=0.9))
    wait_until(lambda: log.exists() and log.read_text().count("\n") == 4)
    sink.close()
    stem = tmp_path / "spool" / "00000001-snow-20260502T091307Z"
    assert log.read_text().splitlines() == ["$(touch owned)", "a; b", f"{stem}.jpg", f"{stem}.json"]
    assert Path(f"{stem}.jpg").exists()


def test_a_hook_gets_whole_paths_that_no_command_takes_for_an_option_or_a_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log = tmp_path / "log"
    hook = Hook(
        (script(tmp_path, f'for a in "$@"; do echo "$a" >> {log}; done'),), 10, delete=False
    )
    monkeypatch.chdir(tmp_path)
    folder = Path("-nas:02")
    folder.mkdir()
    names = [folder / "a.jpg", folder / "a.json"]
    for name in names:
        name.touch()
    hook.extend([Capture(*names)])
    wait_until(lambda: log.exists() and log.read_text().count("\n") == 2)
    hook.close()
    assert log.read_text().splitlines() == [str(tmp_path / name) for name in names]


def test_a_capture_is_deleted_only_after_the_hook_succeeded_even_over_a_restart(
    tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("edge_runtime.sinks.triggers.hook.BACKOFF_S", (0.05, 0.1))
    allowed = tmp_path / "allowed"
    tries = tmp_path / "tries"
    hook = (script(tmp_path, f"echo tried >> {tries}; test -e {allowed}"),)
    sink = make(tmp_path, rule(), hook=hook, delete_after_hook=True)
    feed(sink, *at(0, snowy_road=0.9))
    wait_until(lambda: tries.exists() and tries.read_text().count("tried") >= 2)
    sink.close()
    assert len(sidecars(tmp_path)) == 1
    allowed.touch()
    sink = make(tmp_path, rule(), hook=hook, delete_after_hook=True)
    feed(sink, *at(1, snowy_road=0.1))
    wait_until(lambda: not list((tmp_path / "spool").iterdir()))
    sink.close()


def test_a_hook_that_hangs_is_killed_and_stalls_neither_frames_nor_the_end(tmp_path: Path, caplog):
    hook = (script(tmp_path, "sleep 100"),)
    sink = make(tmp_path, rule(), hook=hook, hook_timeout_s=1.0)
    thread = sink.thread(lossless=False)
    for i in range(50):
        start = time.monotonic()
        thread.put(LabelledFrame(*at(i, snowy_road=0.9 * (i % 2))))
        assert time.monotonic() - start < 1
        time.sleep(0.005)
    wait_until(lambda: "took longer than 1 s" in caplog.text)
    start = time.monotonic()
    thread.close()
    assert time.monotonic() - start < 4
    assert len(sidecars(tmp_path)) > 5


def test_a_capture_that_cannot_be_deleted_ends_no_hook(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    ran = tmp_path / "ran"
    hook = Hook((script(tmp_path, f"echo x >> {ran}"),), 10, delete=True)
    for (
        name
    ) in "ab":  # unlink refuses a directory, as it refuses a file of a disk that went read-only
        (tmp_path / name).mkdir()
        hook.extend([Capture(tmp_path / name, tmp_path / name)])
    wait_until(lambda: not hook._waiting)
    hook.close()
    assert ran.read_text() == "x\nx\n"
    assert caplog.text.count("cannot be deleted") == 2


def test_captures_that_left_the_spool_are_not_handed_on(tmp_path: Path):
    ran = tmp_path / "ran"
    hook = Hook((script(tmp_path, f"echo x >> {ran}"),), 10, delete=False)
    sink = make(tmp_path, rule())
    feed(sink, *at(0, snowy_road=0.9))
    captures = sink.sink._spool.captures()
    for path in (tmp_path / "spool").iterdir():
        path.unlink()
    hook.extend(captures)
    wait_until(lambda: not hook._waiting)
    hook.close()
    assert not ran.exists()


@pytest.mark.fault("N10")
@pytest.mark.parametrize("hook", ['["/bin/tr\\0ue"]', '["/bin/true", "a\\0b"]'])
def test_a_hook_with_a_nul_byte_is_refused(hook: str):
    with pytest.raises(ConfigError, match=r"triggers\.hook\[\d\] holds a NUL byte"):
        strict_yaml.parse(
            f"triggers: {{spool: s, rules: [{{name: a, when: {{label: x}}}}], hook: {hook}}}",
            "x",
            Config,
        )


@pytest.mark.fault("N10")
def test_a_hook_that_cannot_even_be_started_is_said_and_tried_again(
    tmp_path: Path, caplog, monkeypatch
):
    """Whatever goes wrong: a thread that ended would hand over nothing more, and say nothing."""
    monkeypatch.setattr("edge_runtime.sinks.triggers.hook.BACKOFF_S", (0.05, 0.1))
    hook = Hook((script(tmp_path, "true"), "a\0b"), 10, delete=False)
    sink = make(tmp_path, rule())
    feed(sink, *at(0, snowy_road=0.9))
    hook.extend(sink.sink._spool.captures())
    wait_until(lambda: "ValueError: embedded null byte; trying again" in caplog.text)
    assert hook._thread.is_alive()
    hook._argv = hook._argv[:1]
    wait_until(lambda: not hook._waiting)
    hook.close()
