"""Write docs/performance.md from what is kept; with --measure, measure all of it first.

python -m tools.a72.performance             # from the kept figures, in a second
python -m tools.a72.performance --measure   # measure every figure anew, in an hour
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from edge_runtime.commands.builtin_frame import builtin_jpeg
from tools.a72 import ablate, compare, keep, operators, validate
from tools.a72.fit import CENTRAL, GHZ, PESSIMISTIC, VALIDATION, load_validation
from tools.a72.model import FrameModel, stage_table
from tools.arm64.userland import DEFAULT_ROOT, REPOSITORY, build
from tools.lib.command import run_verb, verb_parser

PAGE = REPOSITORY / "docs/performance.md"
PLOT = REPOSITORY / "docs/a72-validation.svg"

TEXT = """\
# Performance

<!-- Written by `python -m tools.a72.performance`; edit the words there, not here. -->

Every figure on this page comes from `python -m tools.a72.performance --measure`. **No figure here was measured on a
board.** {sentence} On a board, `edge-label bench` prints what it really does there.

## The default bundle, end to end

{bundle}: one 640x480 JPEG of {jpeg_kb:.0f} kB (decision 013 says why so large) from an MJPG camera to the written
record, four Cortex-A72 at {ghz} GHz. Stages are added up as if none overlapped; only the encoder is given four cores.

```
{stages}
```

The int8 networks of the validation below come out at {int8_one:.2f} of their published time on one thread and at
{int8_four:.2f} on four, on average. So central, the model times {central}, leans to the slow side. Pessimistic is times
{pessimistic}, which covers every int8 network there. Target: {target_fps} FPS pessimistic and {target_rss} MB; goal:
{goal_fps} FPS and {goal_rss} MB.
The service itself, under an arm64 userland, holds **{rss:.1f} MB** resident at most (the guest's pages only, MB of 1e6
bytes), and runs **{instructions:.2f} M instructions a frame**. CI fails when either leaves its bounds: 3 % or 5 MB.

Capture is the hand-over between two threads and three copies of the JPEG; the USB driver's interrupts are not in it.
Branch mispredictions are not simulated, so the Python around the encoder is known less well than the encoder.

The memory figure is an upper bound: code that the service unmaps once it is loaded (docs/decisions/014) counts here,
because the emulator would not show which of it is needed again. `make vm-test` boots a whole arm64 Debian instead and
prints what its kernel counts, peak and file pages included, and which of a ladder of memory limits still labels frames.
Not in that machine's checks: a camera that sends MJPG (the kernel's virtual one sends YUYV, and Debian ships no
v4l2loopback module).

Where the encoder's time goes, by kind of operator; the share is of its modelled time on one thread:

{operators}

## Beside other encoders

Encoders alone, without camera and labels; RSS of a process with NumPy and ONNX Runtime only. Same emulated machine,
same session options; the times are modelled, times {central} but for the pessimistic column. All but the default bundle
have random weights, on which speed and memory hardly depend. Their accuracy is what their authors publish, for their
own weights in float32 and their own test, also in the rows that say int8.

{comparison}

## How far the model is to be trusted

Sixteen networks in ncnn, traced here, against the times that ncnn publishes for a Raspberry Pi 4 at 1.5 GHz
(benchmark/README.md of github.com/Tencent/ncnn). Each modelled time is by a fit that never saw that network.

{validation}

![modelled over published time](a72-validation.svg)

Instructions are exact: every basic block executed under qemu is counted. Their cycles come from llvm-mca {llvm} for the
Cortex-A72, cache misses from a simulation (32 KB 2-way, 1 MB 16-way, LRU, no prefetcher). Five coefficients are fitted:

```
cycles, one thread   = {compute:.3f} x mca + {l1:.2f} x L1 misses + {dram:.2f} x lines to memory
cycles, four threads = {share:.3f} x ({compute:.3f} x mca + {l1:.2f} x L1 misses) + {dram4:.2f} x lines to memory
```

What it does not know: the time to start and join threads (ShuffleNet, many tiny layers, shows it), a hot board that
throttles, and ONNX Runtime on a real A72. Instruction counts repeat within 1 %.
"""


def render() -> str:
    """The whole page, from what is kept."""
    validation = load_validation()
    figures = keep.load_kept()
    kept = json.loads(VALIDATION.read_text())
    frame = FrameModel(figures.stages, validation.coefficients)
    return TEXT.format(
        sentence=validation.sentence(),
        bundle=figures.bundle,
        jpeg_kb=builtin_jpeg().nbytes / 1e3,
        ghz=GHZ,
        stages=stage_table(frame),
        central=CENTRAL,
        pessimistic=PESSIMISTIC,
        int8_one=kept["int8_modelled_over_measured"][0],
        int8_four=kept["int8_modelled_over_measured"][1],
        target_fps=30,
        target_rss=100,
        goal_fps=46,
        goal_rss=80,
        rss=figures.rss_mb,
        instructions=figures.instructions / 1e6,
        operators=f"```\n{operators.as_text(figures.operators, validation.coefficients)}\n```",
        comparison=compare.as_markdown(),
        validation=validate.as_markdown(kept),
        llvm=validation.llvm,
        **kept["coefficients"],
    )


def main(argv: list[str] | None = None) -> int:
    """Write the page; returns the exit code."""
    parser = verb_parser("tools.a72.performance", __doc__, whole=True)
    parser.add_argument("--measure", action="store_true", help="measure everything anew first")
    return run_verb(parser, _performance, argv, failures={RuntimeError: 69})


def _performance(args: argparse.Namespace) -> int:
    if args.measure:
        status = _measure()
        if status:
            return status
    validate.plot(json.loads(VALIDATION.read_text()), PLOT)
    PAGE.write_text(render())
    # The page of the ablation shows some of the same rows.
    ablate.write_page()
    print(f"{PAGE.relative_to(Path.cwd()) if PAGE.is_relative_to(Path.cwd()) else PAGE} written")
    return 0


def _measure() -> int:
    """Measure all that the page shows; the exit code of the first step that fails."""
    build(DEFAULT_ROOT)
    for step, arguments in ((validate.main, []), (keep.main, ["--write"])):
        status = step(arguments)
        if status:
            return status
    # Only now: what fails before this leaves a page that can be written.
    compare.KEPT.unlink(missing_ok=True)
    return compare.main([])


if __name__ == "__main__":
    sys.exit(main())
