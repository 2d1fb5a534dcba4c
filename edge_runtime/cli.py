"""Arguments in, one call out; then one line and an exit code for whatever went wrong.

A command's modules are imported when the command runs, so ``--help`` is instant. The options
themselves are in `arguments`.
"""

from __future__ import annotations

import argparse
import errno
import logging
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from edge_runtime.arguments import parse
from edge_runtime.errors import (
    ConfigError,
    DataError,
    EdgeLabelError,
    StuckError,
    UsageError,
    one_line,
    printable,
)
from edge_runtime.secrecy import forbid_looking_in, hide_arguments, masked, shown
from edge_runtime.system import streams

if TYPE_CHECKING:
    from pathlib import Path

    from edge_runtime.config import Config
    from edge_runtime.daemon.signals import Signals

log = logging.getLogger("edge_label")


def main(argv: Sequence[str] | None = None, signals: Signals | None = None) -> int:
    """Run a command; returns its exit code.

    ``signals`` are the process's own handlers; ``run`` and ``once --watch`` keep them.
    """
    streams.mend()
    if argv is None:
        hide_arguments(sys.argv[1:])

    try:
        return _main(sys.argv[1:] if argv is None else argv, signals)
    finally:
        _flush()


def _main(arguments: Sequence[str], signals: Signals | None) -> int:
    options = parse(arguments)
    options.signals = signals
    if signals and options.command != "run" and not getattr(options, "watch", False):
        signals.forget()
    _start_log(verbose=bool(getattr(options, "verbose", False)))

    try:
        return _COMMANDS[options.command](options)
    except BrokenPipeError:  # `edge-label ... | head` is no error
        streams.silence()
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        line, code = _explain(error)
        # --verbose also shows an error that `from None` has hidden.
        error.__suppress_context__ = False
        log.debug("traceback of that error", exc_info=error)

    print(f"edge-label: {masked(line)}", file=sys.stderr)  # noqa: T201
    return code


def _flush() -> None:
    """Python flushes once more at the exit, and prints three lines where that fails."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        streams.silence()


def _start_log(*, verbose: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LogLine())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])


class _LogLine(logging.Formatter):
    """``edge-label: what happened``, written over the live line of a terminal.

    Control characters in names from outside are escaped. No line holds a password, wherever it
    came from, and no traceback does.
    """

    def __init__(self) -> None:
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""
        super().__init__(f"{clear}edge-label: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging calls it so
        record.message = printable(record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def _explain(error: Exception) -> tuple[str, int]:
    """(one line for the user, exit code) for whatever ended a command."""
    if isinstance(error, EdgeLabelError):
        return str(error), error.exit_code

    if isinstance(error, MemoryError):
        line = "not enough memory; close other programs, or raise the limit (ulimit -v)"
        return line, StuckError.exit_code

    # Python has no class of its own for this error.
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        line = "no thread can be started; raise the limits (ulimit -u and -v)"
        return line, StuckError.exit_code

    if isinstance(error, ImportError):
        cause = error.__cause__ or error  # NumPy puts a page of advice around the cause
        line = f"a library cannot be loaded: {one_line(cause)}; see edge-label doctor"
        return line, StuckError.exit_code

    explanation = _explain_os_error(error) if isinstance(error, OSError) else None
    if explanation:
        return explanation

    what = f"{type(error).__name__}: {one_line(error)}"
    return f"{what}; this is a bug: please report it, with --verbose", StuckError.exit_code


def _explain_os_error(error: OSError) -> tuple[str, int] | None:
    """What a user can do about an error of the system; None where it is a bug."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{one_line(error)}; raise the limit (ulimit -n)", StuckError.exit_code

    if error.filename is not None:
        # Commands look before they open, so this is a folder that the user may not look into.
        return f"{one_line(error)}; check it with ls -ld", DataError.exit_code

    if error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF):
        # Every other output is named where it is written, so this is standard output.
        streams.silence()
        line = f"standard output: {error.strerror}; nothing more can be written to it"
        return line, DataError.exit_code

    return None


def _config(options: argparse.Namespace) -> Config:
    """The configuration file, if there is one, with the command line on top.

    Raises NoInputError or ConfigError for the file, UsageError for the command line,
    ConfigError for its preview.
    """
    from dataclasses import replace

    from edge_runtime.config import Config

    path = getattr(options, "config", None)
    config = _read_config(path) if path else Config()
    config = _with_preview(config, options)
    try:
        config = replace(
            config,
            camera=replace(config.camera, **_pick(options, _CAMERA_OPTIONS)),
            model=replace(config.model, **_pick(options, _MODEL_OPTIONS)),
            output=replace(config.output, **_pick(options, {"output": "file"})),
        )
    except ValueError as error:
        raise UsageError(str(error)) from error

    if _holds_secrets(config):
        forbid_looking_in()
    return config


# Options, and the fields of the configuration that they set.
_CAMERA_OPTIONS = {
    "camera": "source",
    "realtime": "realtime",
    "loop": "loop",
    "exit_on_device_error": "exit_on_error",
}
_MODEL_OPTIONS = {name: name for name in ("labels", "bundle", "modality", "threads")}
_PREVIEW_OPTIONS = {"preview": "listen", "preview_token_file": "token_file", "preview_edit": "edit"}


def _pick(options: argparse.Namespace, fields: dict[str, str]) -> dict[str, Any]:
    """Fields of the configuration, with the values of the options that the user wrote."""
    values = {}
    for option, field in fields.items():
        value = getattr(options, option, None)
        # A switch that is off leaves the file's setting as it is.
        if value is not None and value is not False:
            values[field] = value
    return values


def _read_config(name: str) -> Config:
    from pathlib import Path

    from edge_runtime.config import load_config

    path = Path(name)
    config = load_config(path)
    if _has_password(config):
        _warn_if_everyone_can_read(path)
    return config


def _with_preview(config: Config, options: argparse.Namespace) -> Config:
    """The preview is off unless the file or the command line asks for it."""
    fields = _pick(options, _PREVIEW_OPTIONS)
    if not fields:
        return config

    from dataclasses import replace

    from edge_runtime.config import PreviewConfig

    try:
        return replace(config, preview=replace(config.preview or PreviewConfig(), **fields))
    except ValueError as error:
        raise ConfigError(f"--preview: {error}") from error


def _has_password(config: Config) -> bool:
    return shown(config.camera.source) != config.camera.source


def _warn_if_everyone_can_read(path: Path) -> None:
    if path.stat().st_mode & 0o004:
        log.warning(
            "%s: every user may read the camera's password; chmod 640 it, group video for the "
            "service",
            path,
        )


def _holds_secrets(config: Config) -> bool:
    """Whether this process knows, or will read, a password, a token or a private key."""
    files = (
        config.mqtt and (config.mqtt.credentials_file or config.mqtt.key_file),
        config.prometheus and config.prometheus.token_file,
        config.preview and config.preview.token_file,
    )
    return any(files) or _has_password(config)


def _say(text: str, options: argparse.Namespace) -> None:
    """Print ``text``, which is JSON where the user asked for JSON."""
    if options.json:
        streams.say_json(text)
    else:
        streams.say(text)


def _run(options: argparse.Namespace) -> int:
    config = _config(options)
    from edge_runtime.daemon.service import Limits, run

    limits = Limits(options.frames, options.seconds)
    run(config, limits, lambda: _config(options), options.signals)
    return 0


def _once(options: argparse.Namespace) -> int:
    model = _config(options).model
    table = {"resume": options.resume, "embeddings": options.embeddings}
    if options.watch:
        from edge_runtime.commands.watch import watch_folders

        return watch_folders(options.pictures, model, options.output, options.signals, **table)

    from edge_runtime.commands.once import label_pictures

    return label_pictures(options.pictures, model, options.output, **table)


def _bench(options: argparse.Namespace) -> int:
    if options.yuyv and options.camera:
        raise UsageError(
            "--yuyv is about the built-in frame",
            "a camera's own format is camera.fourcc in --config",
        )
    config = _config(options)
    from edge_runtime.commands.bench import run_bench

    result = run_bench(
        config,
        source=options.camera,
        seconds=options.seconds,
        builtin="yuyv" if options.yuyv else "mjpg",
    )
    _say(result.to_json() if options.json else result.to_text(), options)
    return 1 if options.check and not result.within_budget else 0


def _doctor(options: argparse.Namespace) -> int:
    from edge_runtime.commands.doctor.answers import Options
    from edge_runtime.commands.doctor.doctor import examine, to_json, to_text

    findings = examine(Options.of(_config(options), options.config))
    _say(to_json(findings) if options.json else to_text(findings), options)
    return 1 if any(finding.level == "fail" for finding in findings) else 0


def _report(options: argparse.Namespace) -> int:
    from edge_runtime.commands.report.report import write_report

    streams.say(write_report(options.runs, options.output, options.png, options.spool))
    return 0


def _bundle(options: argparse.Namespace) -> int:
    from edge_runtime.commands.bundle import bundle_info, bundle_verify

    report = bundle_info if options.command == "bundle info" else bundle_verify
    _say(report(options.path, as_json=options.json), options)
    return 0


def _bundle_install(options: argparse.Namespace) -> int:
    from pathlib import Path

    from edge_runtime.commands.install import install_bundle
    from edge_runtime.model.bundle import DEFAULT_STORE

    text = install_bundle(
        Path(options.archive),
        Path(options.store) if options.store else DEFAULT_STORE,
        key=Path(options.key) if options.key else None,
        allow_downgrade=options.allow_downgrade,
    )
    streams.say(text)
    return 0


def _labels(options: argparse.Namespace) -> int:
    from edge_runtime.commands import labels

    if options.command == "labels list":
        text = labels.list_labels(options.labels, options.bundle)
    elif options.command == "labels search":
        text = labels.search(options.words, options.bundle)
    else:
        text = labels.build(
            options.labels, options.bundle, options.text_encoder, force=options.force
        )
    streams.say(text)
    return 0


def _labels_check(options: argparse.Namespace) -> int:
    from edge_runtime.commands.labels import check

    text, usable = check(options.labels, options.bundle)
    streams.say(text)
    return 0 if usable else ConfigError.exit_code


def _teaching(options: argparse.Namespace) -> int:
    from edge_runtime.commands.learn import forget, learn

    if options.command == "labels learn":
        text = learn(options.labels, options.pictures, _config(options).model)
    else:
        text = forget(options.labels, options.forgotten, options.bundle)
    streams.say(text)
    return 0


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "once": _once,
    "bench": _bench,
    "labels list": _labels,
    "labels search": _labels,
    "labels check": _labels_check,
    "labels build": _labels,
    "labels learn": _teaching,
    "labels forget": _teaching,
    "report": _report,
    "bundle info": _bundle,
    "bundle verify": _bundle,
    "bundle install": _bundle_install,
    "doctor": _doctor,
}
