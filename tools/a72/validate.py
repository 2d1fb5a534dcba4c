"""Fit the model and measure its error: sixteen networks against a real board's published times.

    python -m tools.a72.validate            # trace, fit, write validation.json (ten minutes)
    python -m tools.a72.validate --refit    # fit again from the saved counts (a second)
    python -m tools.a72.validate --plot FILE.svg

The networks run in ncnn, from the aarch64 wheel of the year of the table, so that they execute what
the board executed. The wheel is downloaded; no board is needed.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tools.a72 import networks
from tools.a72.cycles import CycleTable, llvm_version
from tools.a72.fit import PESSIMISTIC, VALIDATION, Work, fit, leave_one_out
from tools.a72.trace import BUILD, trace
from tools.arm64.userland import DEFAULT_ROOT, Userland, download_wheels, install
from tools.lib import markdown
from tools.lib.command import run_verb, verb_parser

NCNN = "1.0.20221128"
GUEST = Path(__file__).with_name("guest_ncnn.py")


def measure(userland: Userland, name: str, table: CycleTable) -> Work:
    """Trace one inference of the network `name` with warm caches."""
    site = BUILD / "ncnn"
    if not site.exists():
        version = userland.python_version
        install(download_wheels(BUILD / "ncnn-wheel", version, [f"ncnn=={NCNN}"]), site, version)
    parameters = BUILD / f"{name}.param"
    parameters.write_text(networks.parameters(name))
    # The published times are for these sizes; SqueezeNet's own is 227.
    size = "227" if name.startswith("squeezenet") else "224"
    environment = {"PYTHONPATH": f"{site}:{userland.site}", "OMP_NUM_THREADS": "1"}
    pieces, _ = trace(userland, GUEST, parameters, size, environment=environment)
    return Work.of(pieces[-1], table)


def conclude(works: dict[str, Work]) -> dict[str, object]:
    """Fit the model and judge it: the content of validation.json."""
    names = list(works)
    one = [networks.BOARD[name][0] for name in names]
    four = [networks.BOARD[name][1] for name in names]
    coefficients = fit(list(works.values()), one, four)
    ratios = leave_one_out(list(works.values()), one, four)
    errors = [[abs(ratio[i] - 1) for ratio in ratios] for i in (0, 1)]

    def summary(values: list[float]) -> dict[str, float]:
        return {"mean": round(sum(values) / len(values), 4), "max": round(max(values), 4)}

    int8 = [ratio for name, ratio in zip(names, ratios, strict=True) if name.endswith("int8")]
    return {
        "schema": "edge-label-a72/1",
        "board": "Raspberry Pi 4 Model B, 1.5 GHz, ncnn's published table",
        "ncnn": NCNN,
        "llvm": llvm_version(),
        "coefficients": asdict(coefficients),
        "leave_one_out_error": {
            "one_thread": summary(errors[0]),
            "four_threads": summary(errors[1]),
        },
        "int8_modelled_over_measured": [
            round(sum(r[i] for r in int8) / len(int8), 3) for i in (0, 1)
        ],
        "worst_under_prediction": [round(min(ratio[i] for ratio in ratios), 3) for i in (0, 1)],
        "networks": {
            name: {
                **asdict(works[name]),
                "mca": round(works[name].mca),
                "board_ms": [one[i], four[i]],
                "model_ms": [round(ratios[i][0] * one[i], 1), round(ratios[i][1] * four[i], 1)],
            }
            for i, name in enumerate(names)
        },
    }


def as_markdown(kept: dict[str, Any]) -> str:
    """The table of docs/performance.md. Modelled times are by a fit that left that network out."""
    head = (
        "network",
        "M instructions",
        "L1 misses, k",
        "memory traffic, MB",
        "board 1 thread, ms",
        "modelled",
        "error",
        "board 4 threads, ms",
        "modelled",
        "error",
    )
    rows = []
    for name, row in kept["networks"].items():
        cells = [
            name,
            f"{row['instructions'] / 1e6:.0f}",
            f"{row['l1_misses'] / 1e3:.0f}",
            f"{row['dram_lines'] * 64e-6:.0f}",
        ]
        for board, model in zip(row["board_ms"], row["model_ms"], strict=True):
            cells += [f"{board:.1f}", f"{model:.1f}", f"{model / board - 1:+.0%}"]
        rows.append(cells)
    return markdown.table(head, rows, "lr")


def plot(kept: dict[str, Any], path: Path) -> None:
    """Draw modelled over published time: logarithmic axes, one dot for each network."""
    import matplotlib as mpl

    mpl.use("svg")
    # The same file for the same numbers: matplotlib otherwise invents new ids each time.
    mpl.rcParams["svg.hashsalt"] = "edge-label"
    from matplotlib import pyplot

    rows = kept["networks"]
    ends = np.array([20, 800])
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 5), sharey=True)
    for axis, i, title in zip(axes, (0, 1), ("one thread", "four threads"), strict=True):
        for name, row in rows.items():
            board = row["board_ms"][i]
            model = row["model_ms"][i]
            marker, color = ("s", "C1") if name.endswith("int8") else ("o", "C0")
            axis.plot(board, model, marker, color=color)
            offset = {"xytext": (3, 3), "textcoords": "offset points"}
            axis.annotate(name, (board, model), fontsize=6, **offset)

        # The line of a perfect model, and the band that the pessimistic figures allow for.
        axis.plot(ends, ends, color="grey", linewidth=1)
        axis.fill_between(ends, ends / PESSIMISTIC, ends * PESSIMISTIC, color="grey", alpha=0.15)
        axis.set(xscale="log", yscale="log", title=title, xlabel="published, Raspberry Pi 4, ms")
    axes[0].set_ylabel("modelled without that network, ms")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main(argv: list[str] | None = None) -> int:
    """Run the validation; returns the exit code."""
    parser = verb_parser("tools.a72.validate", __doc__, whole=True)
    add = parser.add_argument
    board = list(networks.BOARD)
    add("--refit", action="store_true", help="use the counts saved in validation.json")
    add("--plot", type=Path, help="draw the result into this file (needs matplotlib)")
    add("--only", nargs="+", choices=board, metavar="NETWORK", help="trace only these networks")
    return run_verb(parser, _validate, argv, failures={RuntimeError: 69})


def _validate(args: argparse.Namespace) -> str:
    works = _kept_works()
    if not args.refit:
        table = CycleTable()
        userland = Userland(DEFAULT_ROOT)
        for name in args.only or networks.BOARD:
            works[name] = measure(userland, name, table)
            millions = works[name].instructions / 1e6
            print(f"{name}: {millions:.1f} M instructions", file=sys.stderr, flush=True)
        works = {name: works[name] for name in networks.BOARD if name in works}

    kept = conclude(works)
    VALIDATION.write_text(json.dumps(kept, indent=1) + "\n")
    if args.plot:
        plot(kept, args.plot)
    facts = ("coefficients", "leave_one_out_error", "worst_under_prediction")
    return f"{as_markdown(kept)}\n{ {key: kept[key] for key in facts} }"


def _kept_works() -> dict[str, Work]:
    if not VALIDATION.exists():
        return {}
    networks_kept = json.loads(VALIDATION.read_text())["networks"]
    fields = Work.__dataclass_fields__
    return {name: Work(*(row[key] for key in fields)) for name, row in networks_kept.items()}


if __name__ == "__main__":
    sys.exit(main())
