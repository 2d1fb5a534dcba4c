"""The command line as argparse sees it: commands, options and their help.

What a command does is in `cli`. ``options.command`` holds the command's words, for example
``bundle install``, and ``cli`` has a table of functions under the same words.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edge_runtime.one_line_parser import OneLineParser
from edge_runtime.version import __version__

if TYPE_CHECKING:
    from typing import TypeAlias

    Commands: TypeAlias = "argparse._SubParsersAction[OneLineParser]"

_EPILOG = """\
examples:
  edge-label --camera /dev/video0                      live labels on the terminal
  edge-label --camera 0 --labels road --output run.jsonl
  edge-label --camera drive.mp4 --labels road | jq .labels[0].name
  edge-label --camera rtsp://user:password@10.0.0.7/stream
  edge-label --camera libcamera                        a ribbon (CSI) camera
  rpicam-vid -t 0 --codec mjpeg -o - | edge-label --camera -
  edge-label --camera demo --seconds 10                no camera needed
  edge-label --camera 0 --preview                      picture and labels at http://127.0.0.1:8080/

exit codes:
   0  done
   1  a check failed (bench --check, doctor)
   2  wrong usage
  65  bad input data
  66  no such input
  69  camera unavailable (with --exit-on-device-error)
  70  stuck: a restart may help
  78  wrong configuration, label set or bundle: a restart does not help
"""

_BUNDLE = "model bundle (default: $EDGE_LABEL_BUNDLE, the installed one, or models/edge-clip)"
_JSON = "print JSON for another program"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options, with ``command``. Without a command's name the command is ``run``.

    Raises SystemExit after help or a usage error was printed.
    """
    words = list(arguments)
    first = 0
    while first < len(words) and words[first] == "--verbose":
        first += 1

    word = words[first] if first < len(words) else ""
    asks_for_help = word in ("-h", "--help", "--version")
    if not word or (word.startswith("-") and not asks_for_help):
        words.insert(first, "run")
    return make_parser().parse_args(words)


def make_parser() -> argparse.ArgumentParser:
    """The whole command line; ``tools/upkeep/docs.py`` prints the reference from it."""
    parser = OneLineParser(
        prog="edge-label",
        description="Zero-shot text labels for every camera frame, on a small ARM computer.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"edge-label {__version__}",
        help="print the version and exit",
    )

    commands = parser.add_subparsers(
        title="commands",
        description="edge-label COMMAND --help explains the options of one command.",
        metavar="COMMAND",
        required=True,
    )
    _add_run(commands)
    _add_once(commands)
    _add_bench(commands)
    _add_labels(commands)
    _add_report(commands)
    _add_bundle(commands)
    _add_doctor(commands)
    return parser


def _add_run(commands: Commands) -> None:
    run = commands.add_parser(
        "run",
        help="label a camera until stopped (the default command)",
        epilog="Options override --config.",
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
        help="serve a page with the live picture (default http://127.0.0.1:8080; any other address "
        "needs a token)",
    )
    run.add_argument(
        "--preview-token-file",
        metavar="FILE",
        help="file with the page's token, 16 characters or more",
    )
    run.add_argument(
        "--preview-edit",
        action="store_true",
        help="let the page change labels and keep pictures that teach them (needs a token)",
    )
    run.add_argument(
        "--exit-on-device-error",
        action="store_true",
        help="exit 69 instead of waiting for the camera",
    )
    run.set_defaults(command="run")


def _add_once(commands: Commands) -> None:
    once = commands.add_parser("once", help="label picture files and folders")
    once.add_argument("pictures", nargs="+", metavar="PICTURE", help="picture files or folders")
    once.add_argument(
        "--output",
        metavar="FILE",
        help="write a table there: .jsonl, .csv or .parquet",
    )
    once.add_argument(
        "--resume",
        action="store_true",
        help="continue that table: label only the pictures that are not in it",
    )
    once.add_argument(
        "--watch",
        action="store_true",
        help="stay, and label the pictures that arrive in the folders, until SIGTERM or Ctrl-C",
    )
    once.add_argument(
        "--embeddings",
        action="store_true",
        help="also store the image embeddings (.parquet)",
    )
    _add_model(once)
    once.set_defaults(command="once")


def _add_bench(commands: Commands) -> None:
    bench = commands.add_parser("bench", help="measure FPS, latency and memory on this machine")
    _add_source(bench)
    _add_model(bench)
    bench.add_argument(
        "--seconds",
        type=_positive(float),
        default=10.0,
        metavar="S",
        help="how long to measure (default 10)",
    )
    bench.add_argument(
        "--yuyv",
        action="store_true",
        help="use the built-in frame in the uncompressed format YUYV instead of MJPG",
    )
    bench.add_argument("--json", action="store_true", help=_JSON)
    bench.add_argument(
        "--check",
        action="store_true",
        help="exit 1 when over 180 MB or under 23 FPS",
    )
    bench.set_defaults(command="bench")


def _add_labels(commands: Commands) -> None:
    labels = commands.add_parser("labels", help="list, search, check, build and teach label sets")
    actions = labels.add_subparsers(title="actions", metavar="ACTION", required=True)
    set_help = "name of a shipped label set, or a YAML file"

    listing = actions.add_parser("list", help="label sets of the bundle, or the labels of one set")
    listing.add_argument("labels", nargs="?", metavar="SET", help=set_help)
    listing.add_argument("--bundle", metavar="DIR", help=_BUNDLE)
    listing.set_defaults(command="labels list")

    search = actions.add_parser(
        "search",
        help="find words in the text bank, by spelling and by meaning",
    )
    search.add_argument("words", metavar="WORDS", help="what to look for, for example 'icy road'")
    search.add_argument("--bundle", metavar="DIR", help=_BUNDLE)
    search.set_defaults(command="labels search")

    check = actions.add_parser(
        "check",
        help="where each embedding comes from, and which labels are too alike",
    )
    check.add_argument("labels", metavar="SET", help=set_help)
    check.add_argument("--bundle", metavar="DIR", help=_BUNDLE)
    check.set_defaults(command="labels check")

    build = actions.add_parser(
        "build",
        help="embed the phrases that the text bank lacks now, for a camera without a text encoder",
    )
    build.add_argument(
        "labels",
        metavar="FILE",
        help="a label set, YAML; FILE.embeddings is written beside it",
    )
    build.add_argument("--bundle", metavar="DIR", help=_BUNDLE)
    build.add_argument(
        "--text-encoder",
        metavar="PATH",
        help="folder with a CLIP text tower in ONNX and its tokenizer.json, or a CLIP that "
        "transformers can load; makes exact rows (default: models/text-encoder, which makes "
        "approximate ones)",
    )
    build.add_argument("--force", action="store_true", help="encode again even if nothing changed")
    build.set_defaults(command="labels build")
    _add_teaching(actions)


def _add_teaching(actions: Commands) -> None:
    file_help = "a label set, YAML; FILE.embeddings is written beside it"

    learn = actions.add_parser(
        "learn",
        help="teach labels with pictures of your own camera",
        description="Teach a label set with pictures. PICTURES holds a folder for each label, "
        "named as the label, and a folder 'none' with pictures of none of them. Two pictures a "
        "label are a start, ten are good. What was taught before is replaced.",
        epilog="In a folder's name write / as %2F. A picture beside the folders must be a capture "
        "of a trigger: it shows the labels that were on in its sidecar.",
    )
    learn.add_argument("labels", metavar="FILE", help=file_help)
    learn.add_argument("pictures", metavar="PICTURES", help="a folder: PICTURES/<label>/*.jpg")
    learn.add_argument("--bundle", metavar="DIR", help=_BUNDLE)
    _add_encoding(learn)
    learn.set_defaults(command="labels learn")

    forget = actions.add_parser("forget", help="take back what pictures taught")
    forget.add_argument("labels", metavar="FILE", help=file_help)
    forget.add_argument(
        "forgotten",
        nargs="*",
        metavar="LABEL",
        help="labels to forget; 'none' stands for the pictures in none/ (default: all)",
    )
    forget.add_argument("--bundle", metavar="DIR", help=_BUNDLE)
    forget.set_defaults(command="labels forget")


def _add_report(commands: Commands) -> None:
    report = commands.add_parser(
        "report",
        help="draw a run: labels, latency and memory over time",
    )
    report.add_argument(
        "runs",
        nargs="+",
        metavar="RUN.jsonl",
        help="what --output wrote, oldest first",
    )
    report.add_argument("--output", metavar="FILE", help="the HTML page (default: RUN.html)")
    report.add_argument("--png", metavar="FILE", help="also write the chart alone, as a picture")
    report.add_argument(
        "--spool",
        metavar="DIR",
        help="show pictures that triggers stored there beside the events",
    )
    report.set_defaults(command="report")


def _add_bundle(commands: Commands) -> None:
    bundle = commands.add_parser("bundle", help="inspect, verify or install a model bundle")
    actions = bundle.add_subparsers(title="actions", metavar="ACTION", required=True)

    info = actions.add_parser("info", help="what the bundle holds, and where it comes from")
    verify = actions.add_parser("verify", help="check every file of the bundle")
    for parser, command in ((info, "bundle info"), (verify, "bundle verify")):
        parser.add_argument(
            "path",
            nargs="?",
            metavar="DIR",
            help="bundle directory (default: the one that run would use)",
        )
        parser.add_argument("--json", action="store_true", help=_JSON)
        parser.set_defaults(command=command)

    install = actions.add_parser("install", help="check a .tar and make it the bundle in use")
    install.add_argument("archive", metavar="FILE", help="plain tar archive of a bundle directory")
    install.add_argument(
        "--store",
        metavar="DIR",
        help="where bundles are stored (default /var/lib/edge-label-bundles)",
    )
    install.add_argument(
        "--key",
        metavar="PEM",
        help="Ed25519 public key; the bundle must be signed with its private key",
    )
    install.add_argument(
        "--allow-downgrade",
        action="store_true",
        help="also accept an older version, another name, or other content",
    )
    install.set_defaults(command="bundle install")


def _add_doctor(commands: Commands) -> None:
    doctor = commands.add_parser("doctor", help="check camera, permissions, libraries, clock, disk")
    doctor.add_argument(
        "--camera",
        metavar="SOURCE",
        help="the camera to check (default /dev/video0)",
    )
    doctor.add_argument("--config", metavar="FILE", help="check what this configuration names")
    doctor.add_argument("--bundle", metavar="DIR", help="the bundle to check")
    doctor.add_argument("--json", action="store_true", help=_JSON)
    doctor.set_defaults(command="doctor")


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--camera",
        metavar="SOURCE",
        help="/dev/video0, 0, a /dev/v4l/by-id path, video file, picture, folder, rtsp:// or "
        "http:// URL, libcamera (a ribbon camera), 'exec:PROGRAM ARGUMENTS' that writes MJPEG, - "
        "for a pipe, or demo",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="YAML file; systemd/edge-label.yaml explains every key",
    )
    parser.add_argument("--realtime", action="store_true", help="pace a file at its own frame rate")
    parser.add_argument("--loop", action="store_true", help="start a file again when it ends")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--labels",
        metavar="SET",
        help="a label set of the bundle (everyday, indoor, road) or a YAML file",
    )
    parser.add_argument("--bundle", metavar="DIR", help=_BUNDLE)
    _add_encoding(parser)


def _add_encoding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--modality",
        choices=("auto", "rgb", "ir", "depth"),
        help="what the frames are (default auto: 8-bit colour is rgb; one 8-bit channel is ir "
        "where the bundle knows ir, else grey rgb; one 16-bit channel is depth)",
    )
    parser.add_argument(
        "--threads",
        type=_positive(int),
        metavar="N",
        help="encoder threads (default: cores, up to 4)",
    )


def _positive(kind: Callable[[str], int | float]) -> Callable[[str], int | float]:
    def parse_number(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError as error:
            noun = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"'{text}' is not a {noun}") from error
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not more than zero")
        return value

    return parse_number
