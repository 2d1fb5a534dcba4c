"""Arguments in, one call out. Nothing is imported before a command needs it, so ``--help`` is instant."""

from __future__ import annotations

import argparse
import difflib
import errno
import logging
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn

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
from edge_runtime.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from edge_runtime.config import Config
    from edge_runtime.daemon.signals import Signals

log = logging.getLogger("edge_label")

_EPILOG = """\
commands (edge-label COMMAND --help):
  run            label a camera until stopped (the default; the word may be left out)
  once           label pictures, also by the folder
  bench          FPS, latency and memory on this machine, against the budget
  labels         list, search, check and build: what can be said, in plain words
  report         a page that shows a run: labels, latency, memory over time
  bundle         info, verify or install a model bundle
  doctor         camera, permissions, processor, libraries, clock, heat, disk

examples:
  edge-label --camera /dev/video0                      live labels on the terminal
  edge-label --camera 0 --labels road --output run.jsonl
  edge-label --camera drive.mp4 --labels road | jq .labels[0].name
  edge-label --camera rtsp://user:password@10.0.0.7/stream
  edge-label --camera demo --seconds 10                no camera needed
  edge-label --camera 0 --preview                      live picture and labels at http://127.0.0.1:8080/

exit codes: 0 done, 1 a check says no (bench --check, doctor), 2 usage, 65 bad input data, 66 no such
input, 69 camera unavailable (with --exit-on-device-error), 70 stuck, 78 configuration or bundle error
"""


def main(argv: Sequence[str] | None = None, heard: Signals | None = None) -> int:
    """Run a command; returns its exit code. ``heard`` are the signals that the program listens to already."""
    streams.mend()
    if argv is None:
        hide_arguments(sys.argv[1:])
    try:
        return _main(list(sys.argv[1:] if argv is None else argv), heard)
    finally:
        _flush()


def _main(arguments: list[str], heard: Signals | None) -> int:
    command, options = _parse(arguments)
    options.heard = heard
    if heard and command is not _run:
        heard.forget()
    verbose = bool(getattr(options, "verbose", False))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LogLine())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    try:
        return command(options)
    except BrokenPipeError:  # `edge-label ... | head` is no error
        streams.silence()
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        problem, code = _explain(error)
        error.__suppress_context__ = False  # --verbose shows what lay behind the line, too
        log.debug("where that was", exc_info=error)
    print(f"edge-label: {masked(problem)}", file=sys.stderr)  # noqa: T201
    return code


def _explain(error: Exception) -> tuple[str, int]:
    """(what to tell in one line, exit code) for whatever ended a command."""
    if isinstance(error, EdgeLabelError):
        return str(error), error.exit_code
    if isinstance(error, MemoryError):
        return (
            "not enough memory; close other programs, or raise the limit (ulimit -v)",
            StuckError.exit_code,
        )
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return "no thread can be started; raise the limits (ulimit -u and -v)", StuckError.exit_code
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{one_line(error)}; raise the limit (ulimit -n)", StuckError.exit_code
    if (
        isinstance(error, OSError) and error.filename is not None
    ):  # this user may not even look at it
        return f"{one_line(error)}; check it with ls -ld", DataError.exit_code
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF):
        streams.silence()  # every other output is named where it is written
        return (
            f"standard output: {error.strerror}; nothing more can be written to it",
            DataError.exit_code,
        )
    if isinstance(error, ImportError):
        cause = error.__cause__ or error  # NumPy puts a page of advice around it
        return (
            f"a library cannot be loaded: {one_line(cause)}; see edge-label doctor",
            StuckError.exit_code,
        )
    what = f"{type(error).__name__}: {one_line(error)}"
    return f"{what}; a mistake of ours: please report this, with --verbose", StuckError.exit_code


def _parse(arguments: list[str]) -> tuple[Callable[[argparse.Namespace], int], argparse.Namespace]:
    """The command, ``run`` where none is named, and its options."""
    first = next(
        (i for i, argument in enumerate(arguments) if argument != "--verbose"), len(arguments)
    )
    word = arguments[first] if first < len(arguments) else ""
    if not word or (word.startswith("-") and word not in ("-h", "--help", "--version")):
        arguments.insert(first, "run")
    options = make_parser().parse_args(arguments)
    return options.command, options


def _flush() -> None:
    """Python flushes once more at the exit, and complains on three lines where that fails."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        streams.silence()


class _LogLine(logging.Formatter):
    """``edge-label: what happened``, on a terminal over the live line. Names from outside are shown, not obeyed.

    No line holds a password, wherever it came from, nor does a traceback.
    """

    def __init__(self) -> None:
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""
        super().__init__(f"{clear}edge-label: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging calls it so
        record.message = printable(record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


class _Parser(argparse.ArgumentParser):
    """Says a mistake in one line, where argparse would print its usage too. Every command knows --verbose."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # SUPPRESS: a command that was not told must not take back what stood before it.
        text = "log more, and show where an error comes from"
        self.add_argument("--verbose", action="store_true", default=argparse.SUPPRESS, help=text)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Help that nobody can read is no error. Python 3.11.2, which Debian 12 has, would end in a traceback."""
        try:
            super()._print_message(message, file)
        except OSError:
            streams.silence()

    def error(self, message: str) -> NoReturn:
        self.exit(
            UsageError.exit_code,
            f"edge-label: {printable(masked(message))}; see {self.prog} --help\n",
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            known = re.findall(r"--[a-z-]+", self.format_help())
            near = difflib.get_close_matches(unknown[0], known, n=1)
            # Only what they are called: --password hunter2 is a mistake that people make.
            named = [shown(word).partition("=")[0] for word in unknown if word.startswith("-")] or [
                shown(unknown[0])
            ]
            self.error(
                f"unrecognized arguments: {' '.join(named)}"
                + (f"; did you mean {near[0]}?" if near else "")
            )
        return options, unknown


def make_parser() -> argparse.ArgumentParser:
    """The whole command line; tools/upkeep/docs.py prints the reference from it."""
    parser = _Parser(
        prog="edge-label",
        description="Zero-shot text labels for every camera frame, on a small ARM computer.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edge-label {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    run = commands.add_parser(
        "run", help="label a camera until stopped", epilog="Options override --config."
    )
    _add_source(run)
    _add_model(run)
    run.add_argument("--output", metavar="FILE", help="append JSON lines there (default: stdout)")
    run.add_argument("--frames", type=_positive(int), metavar="N", help="stop after N frames")
    run.add_argument("--seconds", type=_positive(float), metavar="S", help="stop after S seconds")
    run.add_argument(
        "--preview",
        nargs="?",
        const="127.0.0.1:8080",
        metavar="ADDRESS:PORT",
        help="serve a page with the live picture (default http://127.0.0.1:8080; any other address needs a token)",
    )
    run.add_argument(
        "--preview-token-file",
        metavar="FILE",
        help="file with the page's token, 16 characters or more",
    )
    run.add_argument(
        "--exit-on-device-error",
        action="store_true",
        help="exit 69 instead of waiting for the camera",
    )
    run.set_defaults(command=_run)

    once = commands.add_parser("once", help="label pictures")
    once.add_argument("pictures", nargs="+", metavar="PICTURE", help="picture files or folders")
    once.add_argument(
        "--output", metavar="FILE", help="write a table there: .jsonl, .csv or .parquet"
    )
    once.add_argument(
        "--resume", action="store_true", help="go on with that table, labelling only what it lacks"
    )
    once.add_argument(
        "--embeddings", action="store_true", help="also keep the image embeddings (.parquet)"
    )
    _add_model(once)
    once.set_defaults(command=_once)

    bench = commands.add_parser("bench", help="measure FPS, latency and memory here")
    _add_source(bench)
    _add_model(bench)
    bench.add_argument(
        "--seconds", type=_positive(float), default=10.0, metavar="S", help="how long (default 10)"
    )
    bench.add_argument(
        "--yuyv",
        action="store_true",
        help="the built-in frame as an uncompressed camera sends it, not as MJPG",
    )
    bench.add_argument("--json", action="store_true", help="machine-readable")
    bench.add_argument(
        "--check", action="store_true", help="exit 1 when over 180 MB or under 23 FPS"
    )
    bench.set_defaults(command=_bench)

    doctor = commands.add_parser("doctor", help="what is wrong with this machine, in sentences")
    doctor.add_argument(
        "--camera", metavar="SOURCE", help="the camera to look at (default /dev/video0)"
    )
    doctor.add_argument("--config", metavar="FILE", help="look at what this configuration names")
    doctor.add_argument("--bundle", metavar="DIR", help="the bundle to look at")
    doctor.add_argument("--json", action="store_true", help="machine-readable")
    doctor.set_defaults(command=_doctor)

    report = commands.add_parser("report", help="draw a run: labels, latency, memory over time")
    report.add_argument(
        "runs", nargs="+", metavar="RUN.jsonl", help="what --output wrote, oldest first"
    )
    report.add_argument("--output", metavar="FILE", help="the HTML page (default: RUN.html)")
    report.add_argument("--png", metavar="FILE", help="also the chart alone, as a picture")
    report.add_argument(
        "--spool", metavar="DIR", help="show pictures that triggers kept there beside the events"
    )
    report.set_defaults(command=_report)

    bundle = commands.add_parser("bundle", help="look at a model bundle")
    bundle_actions = bundle.add_subparsers(metavar="ACTION", required=True)
    for action, text in (
        ("info", "what is in it, and where it comes from"),
        ("verify", "check every file"),
    ):
        sub = bundle_actions.add_parser(action, help=text)
        sub.add_argument(
            "path",
            nargs="?",
            metavar="DIR",
            help="bundle directory (default: the one run would use)",
        )
        sub.add_argument("--json", action="store_true", help="machine-readable")
        sub.set_defaults(command=_bundle, action=action)

    install = bundle_actions.add_parser(
        "install", help="check a .tar and make it the bundle in use"
    )
    install.add_argument("archive", metavar="FILE", help="plain tar archive of a bundle directory")
    install.add_argument(
        "--store", metavar="DIR", help="where bundles live (default /var/lib/edge-label-bundles)"
    )
    install.add_argument("--key", metavar="PEM", help="Ed25519 public key it must be signed with")
    install.add_argument(
        "--allow-downgrade",
        action="store_true",
        help="also take an older version, another name, or other content",
    )
    install.set_defaults(command=_bundle_install)

    labels = commands.add_parser("labels", help="work with label sets")
    label_actions = labels.add_subparsers(metavar="ACTION", required=True)
    listing = label_actions.add_parser(
        "list", help="label sets of the bundle, or the labels of one"
    )
    listing.add_argument(
        "labels", nargs="?", metavar="SET", help="a shipped set's name or a YAML file"
    )
    listing.add_argument("--bundle", metavar="DIR")
    listing.set_defaults(command=_labels_list)
    build = label_actions.add_parser(
        "build", help="embed the phrases the text bank lacks, so the camera needs no encoder"
    )
    build.add_argument(
        "labels", metavar="FILE", help="a label set, YAML; FILE.embeddings is written beside it"
    )
    build.add_argument("--bundle", metavar="DIR")
    build.add_argument(
        "--text-encoder",
        metavar="PATH",
        help="folder with a CLIP text tower in ONNX and its tokenizer.json, or a CLIP that transformers can load; "
        "makes exact rows (default: models/text-encoder, which makes approximate ones)",
    )
    build.add_argument("--force", action="store_true", help="encode again even if nothing changed")
    build.set_defaults(command=_labels_build)
    checking = label_actions.add_parser(
        "check", help="where each embedding comes from, which labels are too alike"
    )
    checking.add_argument("labels", metavar="SET", help="a shipped set's name or a YAML file")
    checking.add_argument("--bundle", metavar="DIR")
    checking.set_defaults(command=_labels_check)
    searching = label_actions.add_parser(
        "search", help="find words in the text bank, by spelling and by meaning"
    )
    searching.add_argument("words", metavar="WORDS")
    searching.add_argument("--bundle", metavar="DIR")
    searching.set_defaults(command=_labels_search)
    return parser


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--camera",
        metavar="SOURCE",
        help="/dev/video0, 0, a /dev/v4l/by-id path, video file, picture, folder, rtsp:// or http:// URL, or demo",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="YAML file; systemd/edge-label.yaml explains every key"
    )
    parser.add_argument("--realtime", action="store_true", help="pace a file at its own frame rate")
    parser.add_argument("--loop", action="store_true", help="start a file again when it ends")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--labels",
        metavar="SET",
        help="a label set of the bundle (everyday, indoor, road) or a YAML file",
    )
    parser.add_argument(
        "--bundle",
        metavar="DIR",
        help="model bundle (default: $EDGE_LABEL_BUNDLE, the installed, models/edge-clip)",
    )
    parser.add_argument(
        "--modality",
        choices=("auto", "rgb", "ir", "depth"),
        help="what the frames are (default auto: 8-bit colour is rgb; one 8-bit channel ir where the bundle knows ir, "
        "else grey rgb; one of 16 bits depth)",
    )
    parser.add_argument(
        "--threads",
        type=_positive(int),
        metavar="N",
        help="encoder threads (default: cores, up to 4)",
    )


def _positive(kind: Callable[[str], int | float]) -> Callable[[str], int | float]:
    def parse(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            whole = "whole " if kind is int else ""
            raise argparse.ArgumentTypeError(f"'{text}' is not a {whole}number") from None
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not more than zero")
        return value

    return parse


def _config(options: argparse.Namespace) -> Config:
    """The configuration file, if any, with the command line on top."""
    from dataclasses import replace
    from pathlib import Path

    from edge_runtime.config import Config, PreviewConfig, load_config

    config = load_config(Path(options.config)) if getattr(options, "config", None) else Config()
    if getattr(options, "config", None) and shown(config.camera.source) != config.camera.source:
        _advise_to_close(Path(options.config))
    given = {name: value for name, value in vars(options).items() if value not in (None, False)}

    def pick(**names: str) -> dict[str, Any]:
        return {field: given[option] for field, option in names.items() if option in given}

    camera = pick(
        source="camera", realtime="realtime", loop="loop", exit_on_error="exit_on_device_error"
    )
    model = pick(labels="labels", bundle="bundle", modality="modality", threads="threads")
    if "preview" in given or "preview_token_file" in given:
        preview = pick(listen="preview", token_file="preview_token_file")  # noqa: S106 - a path
        try:
            config = replace(config, preview=replace(config.preview or PreviewConfig(), **preview))
        except ValueError as error:
            raise ConfigError(f"--preview: {error}") from None
    try:
        config = replace(
            config,
            camera=replace(config.camera, **camera),
            model=replace(config.model, **model),
            output=replace(config.output, **pick(file="output")),
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    if _holds_secrets(config):
        forbid_looking_in()
    return config


def _advise_to_close(path: Path) -> None:
    if path.stat().st_mode & 0o004:
        log.warning(
            "%s: every user may read the camera's password; chmod 640 it, group video for the service",
            path,
        )


def _holds_secrets(config: Config) -> bool:
    """Whether this process knows, or will read, a password, a token or a private key."""
    files = (
        config.mqtt and (config.mqtt.credentials_file or config.mqtt.key_file),
        config.prometheus and config.prometheus.token_file,
        config.preview and config.preview.token_file,
    )
    return any(files) or shown(config.camera.source) != config.camera.source


def _show(text: str, options: argparse.Namespace) -> None:
    (streams.say_json if options.json else streams.say)(text)


def _run(options: argparse.Namespace) -> int:
    config = _config(options)
    from edge_runtime.daemon.service import Limits, run

    run(config, Limits(options.frames, options.seconds), lambda: _config(options), options.heard)
    return 0


def _once(options: argparse.Namespace) -> int:
    from edge_runtime.commands.once import label_pictures

    flags = {"resume": options.resume, "embeddings": options.embeddings}
    return label_pictures(options.pictures, _config(options).model, options.output, **flags)


def _bench(options: argparse.Namespace) -> int:
    if options.yuyv and options.camera:
        raise UsageError(
            "--yuyv is about the built-in frame",
            "a camera's own format is camera.fourcc in --config",
        )
    config = _config(options)
    from edge_runtime.commands.bench import run_bench

    form: Literal["mjpg", "yuyv"] = "yuyv" if options.yuyv else "mjpg"
    result = run_bench(config, source=options.camera, seconds=options.seconds, builtin=form)
    _show(result.to_json() if options.json else result.to_text(), options)
    return 1 if options.check and not result.within_budget else 0


def _report(options: argparse.Namespace) -> int:
    from edge_runtime.commands.report.report import write_report

    streams.say(write_report(options.runs, options.output, options.png, options.spool))
    return 0


def _bundle(options: argparse.Namespace) -> int:
    from edge_runtime.commands.bundle import bundle_info, bundle_verify

    show = bundle_info if options.action == "info" else bundle_verify
    _show(show(options.path, as_json=options.json), options)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    config = _config(options)
    from edge_runtime.commands.doctor import Options, examine, to_json, to_text

    labels = config.model.labels if options.config else None
    findings = examine(
        Options(config.camera.source, config.model.bundle, config.output.file, labels)
    )
    _show(to_json(findings) if options.json else to_text(findings), options)
    return 1 if any(finding.level == "fail" for finding in findings) else 0


def _bundle_install(options: argparse.Namespace) -> int:
    from pathlib import Path

    from edge_runtime.commands.install import install_bundle
    from edge_runtime.model.bundle import DEFAULT_STORE

    store = Path(options.store) if options.store else DEFAULT_STORE
    key = Path(options.key) if options.key else None
    streams.say(
        install_bundle(
            Path(options.archive), store, key=key, allow_downgrade=options.allow_downgrade
        )
    )
    return 0


def _labels_list(options: argparse.Namespace) -> int:
    from edge_runtime.commands.bundle import list_labels

    streams.say(list_labels(options.labels, options.bundle))
    return 0


def _labels_build(options: argparse.Namespace) -> int:
    from edge_runtime.commands.labels import build

    streams.say(build(options.labels, options.bundle, options.text_encoder, force=options.force))
    return 0


def _labels_check(options: argparse.Namespace) -> int:
    from edge_runtime.commands.labels import check

    report, usable = check(options.labels, options.bundle)
    streams.say(report)
    return 0 if usable else ConfigError.exit_code


def _labels_search(options: argparse.Namespace) -> int:
    from edge_runtime.commands.labels import search

    streams.say(search(options.words, options.bundle))
    return 0
