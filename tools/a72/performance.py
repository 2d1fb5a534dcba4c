"""Write docs/performance.md from the saved figures; with --measure, measure all of them first.

python -m tools.a72.performance             # from the saved figures, in a second
python -m tools.a72.performance --measure   # measure every figure again, in an hour
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

Every figure on this page comes from `python -m tools.a72.performance --measure`. **No figure here
was measured on a board.** {sentence} On a board, `edge-label bench` measures the real figures.

## The default bundle, end to end

{bundle}: one 640x480 JPEG of {jpeg_kb:.0f} kB from an MJPG camera to the written record, on four
Cortex-A72 cores at {ghz} GHz. Decision 013 explains the size of the JPEG. The sum assumes that no
stages overlap. Only the encoder uses four cores.

```
{stages}
```

For the int8 networks of the validation below, the model predicts {int8_one:.2f} of the published
time on one thread and {int8_four:.2f} on four, on average. The central estimate is the model times
{central}, so it is slightly too slow rather than too fast. The pessimistic estimate is the model
times {pessimistic}, which covers every int8 network there. Target: {target_fps} FPS pessimistic and
{target_rss} MB; goal: {goal_fps} FPS and {goal_rss} MB.

In an arm64 userland, the service needs **{rss:.1f} MB** resident at most (the guest's pages only,
MB of 1e6 bytes), and runs **{instructions:.2f} M instructions a frame**. CI fails if the
instructions change by more than 3 % or the memory by more than 5 MB.

Capture is the hand-over between two threads, with three copies of the JPEG. It does not contain the
interrupts of the USB driver. Branch mispredictions are not simulated, so the figures for the Python
around the encoder are less certain than those for the encoder.

The memory figure is an upper bound. It contains code that the service unmaps once it is loaded
(docs/decisions/014), because the emulator cannot show which of that code is needed again. `make
vm-test` boots a whole arm64 Debian instead. It prints the memory that its kernel counts, with the
peak and file pages, and under which memory limits the service still labels frames. That machine has
no camera that sends MJPG: the kernel's virtual camera sends YUYV, and Debian ships no v4l2loopback
module.

The encoder's time by kind of operator. The share is of the modelled time on one thread:

{operators}

## Beside other encoders

These are encoders alone, without camera and labels. RSS is that of a process with only NumPy and
ONNX Runtime. The emulated machine and the session options are the same. The times are the central
estimate, except in the pessimistic column. All encoders but the default bundle have random weights,
because speed and memory hardly depend on them. Published accuracy is the authors' own, for their
float32 weights and their own test, also in the rows that say int8.

{comparison}

## How accurate the model is

We traced sixteen networks in ncnn and compared the model with the times that ncnn publishes for a
Raspberry Pi 4 at 1.5 GHz
([benchmark/README.md](https://github.com/Tencent/ncnn/blob/master/benchmark/README.md)). Each
modelled time comes from a fit without that network.

{validation}

![modelled over published time](a72-validation.svg)

The instruction counts are exact: every basic block that runs under qemu is counted. The cycles come
from llvm-mca {llvm} for the Cortex-A72, and the cache misses from a simulation (32 KB 2-way, 1 MB
16-way, LRU, no prefetcher). Five coefficients are fitted:

```
cycles, one thread   = {compute:.3f} x mca + {l1:.2f} x L1 misses + {dram:.2f} x lines to memory
cycles, four threads = {share:.3f} x ({compute:.3f} x mca + {l1:.2f} x L1 misses)
                     + {dram4:.2f} x lines to memory
```

The model does not know the time to start and join threads (ShuffleNet, with its many tiny layers,
shows this), a hot board that throttles, or ONNX Runtime on a real A72. Instruction counts repeat
within 1 %.
"""


def render() -> str:
    """The whole page, from the saved figures."""
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
    parser.add_argument("--measure", action="store_true", help="measure everything again first")
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
    here = Path.cwd()
    page = PAGE.relative_to(here) if PAGE.is_relative_to(here) else PAGE
    print(f"{page} written")
    return 0


def _measure() -> int:
    """Measure everything that the page shows; returns the exit code of the first step that
    fails."""
    build(DEFAULT_ROOT)
    for step, arguments in ((validate.main, []), (keep.main, ["--write"])):
        status = step(arguments)
        if status:
            return status
    # Not earlier: when a step above fails, the page can still be written from the saved figures.
    compare.KEPT.unlink(missing_ok=True)
    return compare.main([])


if __name__ == "__main__":
    sys.exit(main())
