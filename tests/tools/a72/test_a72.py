"""The model's arithmetic, and the errors of its tools when something is missing. No test here runs
an emulator."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tools.a72 import ablate, cycles, fit, keep, networks, operators, performance, trace, validate
from tools.a72.keep import Figures
from tools.a72.model import STAGES, FrameModel, last_frame
from tools.a72.trace import Piece
from tools.arm64 import debian, machine, userland

TRACE = """\
block 0 400000 d503201fd65f03c0
count 0 3
cut 0 1000 0 0 0 0
block 1 400008 d503201f
count 0 2
count 1 5
cut 1 2000 7 3 2 1
block 2 4000"""


def test_pieces_hold_what_ran_between_two_cuts() -> None:
    first, second = trace.parse(TRACE)
    assert (first.label, first.instructions) == (0, 6)
    assert second.blocks == Counter({"d503201fd65f03c0": 2, "d503201f": 5})
    assert (second.instructions, second.accesses, second.l1_misses, second.dram_lines) == (
        9,
        7,
        3,
        3,
    )


@pytest.mark.parametrize(
    ("text", "cracked"),
    [
        ("ldr\tq0, [x1], #16", "ldr\tq0, [x1]\nadd x1, x1, #16"),
        ("str\tq0, [x1, #-32]!", "sub x1, x1, #32\nstr\tq0, [x1]"),
        ("ld1\t{ v0.16b }, [x2], x3", "ld1\t{ v0.16b }, [x2]\nadd x2, x2, x3"),
        ("ldr\tq0, [x1, #16]", "ldr\tq0, [x1, #16]"),
    ],
)
def test_write_back_addressing_is_an_access_and_an_addition(text: str, cracked: str) -> None:
    assert cycles.split_write_back(text) == cracked


def test_fit_finds_the_coefficients_that_made_the_times() -> None:
    true = fit.Coefficients(1.2, 3.0, 11.0, 0.3, 20.0)
    rng = np.random.default_rng(0)
    works = [fit.Work(0, *(int(n) for n in rng.integers(1e6, 1e8, 3))) for _ in range(12)]
    found = fit.fit(works, [true.ms(work) for work in works], [true.ms(work, 4) for work in works])
    assert found == pytest.approx(true) or np.allclose(
        list(vars(found).values()), list(vars(true).values())
    )


def test_four_cores_never_give_more_than_four() -> None:
    works = [fit.Work(0, n * 10**6, n * 1000, n * n) for n in (10, 20, 40, 80)]
    one = [work.mca / 1.5e6 for work in works]
    assert fit.fit(works, one, [ms / 6 for ms in one]).share >= 0.25


def test_kept_coefficients_are_those_of_the_kept_counts() -> None:
    """Nobody edits a coefficient by hand: the fit of the kept counts gives exactly what is kept."""
    kept = json.loads(fit.VALIDATION.read_text())
    works = {
        name: fit.Work(*(row[key] for key in fit.Work.__dataclass_fields__))
        for name, row in kept["networks"].items()
    }
    assert len(works) == 16
    again = validate.conclude(works)
    assert again["coefficients"] == pytest.approx(kept["coefficients"])
    assert again["leave_one_out_error"] == kept["leave_one_out_error"]


def test_the_pessimistic_margin_covers_the_int8_networks() -> None:
    kept = json.loads(fit.VALIDATION.read_text())
    for name, row in kept["networks"].items():
        if name.endswith("int8"):
            for board, model in zip(row["board_ms"], row["model_ms"], strict=True):
                assert fit.PESSIMISTIC * model >= board, name


def test_every_modelled_figure_carries_its_sentence() -> None:
    sentence = fit.load_validation().sentence()
    assert sentence.startswith("Modelled, not measured on hardware")
    assert "%" in sentence


@pytest.mark.parametrize("name", list(networks.BOARD))
def test_network_files_connect(name: str) -> None:
    """Every input of a layer is an output of one before it, used once, and the counts in the header
    are right."""
    lines = networks.parameters(name).splitlines()
    layers, blobs = (int(n) for n in lines[1].split())
    assert layers == len(lines) - 2
    open_blobs: set[str] = set()
    made = 0
    for line in lines[2:]:
        _, _, inputs, outputs, *rest = line.split()
        names = rest[: int(inputs) + int(outputs)]
        for blob in names[: int(inputs)]:
            open_blobs.remove(blob)
        open_blobs.update(names[int(inputs) :])
        made += int(outputs)
    assert made == blobs
    assert len(open_blobs) == 1  # the softmax's output


def test_operators_are_matched_by_time_and_work() -> None:
    """Two clock reads of something else, then three operators back to back, then one more read."""
    ticks = [
        5000.0,
        5099.0,
        5100.0,
        5149.0,
        5150.0,
        5219.0,
        5220.0,
        5290.0,
        5300.0,
    ]  # unrelated zero
    instructions = [5, 5, 5, 900, 5, 700, 5, 800, 5]  # before each read
    assert operators._align([100.0, 150.0, 220.0], ticks, instructions) == 2
    assert operators._align([99.0, 149.0, 219.0], ticks, instructions) == 2


def test_a_stage_that_runs_twice_counts_twice() -> None:
    """A pipeline that decodes every frame two times must not hide behind the second."""
    order = [*STAGES[:2], "decode", *STAGES[2:]]
    pieces = [Piece(0)]
    for count in (9, 1):  # a frame that warms up, and the one that counts
        pieces += [
            Piece(STAGES.index(stage) + 1, blocks=Counter({"d503201f": count})) for stage in order
        ]
    frame = last_frame(pieces)
    assert list(frame) == list(STAGES)
    assert {stage: piece.instructions for stage, piece in frame.items()} == {
        **dict.fromkeys(STAGES, 1),
        "decode": 2,
    }


def test_a_regression_is_named() -> None:
    kept = Figures("edge-clip 1", 100_000_000, 90.0)
    assert Figures("edge-clip 1", 102_000_000, 94.0).complaints(kept) == []
    slow, big = Figures("edge-clip 1", 104_000_000, 96.0).complaints(kept)
    assert "104.00 M, saved 100.00 M (+4.0%" in slow
    assert "96.0 MB, saved 90.0 MB (+6.0" in big


def test_missing_programs_are_named_with_their_package() -> None:
    with pytest.raises(debian.MissingPieceError, match="apt-get install qemu-user"):
        debian.require("qemu-aarch64-that-nobody-has", "qemu-user")


def test_without_a_userland_the_command_says_how_to_build_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "PATH", str(tmp_path)
    )  # where qemu is missing too, the userland is still what to build first
    assert userland.main(["--root", str(tmp_path), "run", "x.py"]) == 69
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "python -m tools.arm64.userland build" in error


def test_package_lists_that_could_not_be_read_are_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user is told to run `apt-get update`; after that the same command must work."""
    monkeypatch.setattr(debian, "run", lambda *_, **__: "")  # apt knows no suite
    with pytest.raises(debian.MissingPieceError, match="apt-get update"):
        debian._apt(tmp_path / "apt")
    line = f"Debian|Packages|http://deb.example/debian|{debian.codename()}|main\n"
    monkeypatch.setattr(
        debian, "run", lambda *command, **_: line if "indextargets" in command else ""
    )
    debian._apt(tmp_path / "apt")
    assert "http://deb.example/debian" in (tmp_path / "apt/sources.list").read_text()


def test_a_guest_that_does_not_end_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = userland.Userland(tmp_path)
    monkeypatch.setattr(userland.Userland, "command", lambda *_, **__: ["sleep", "10"])
    with pytest.raises(RuntimeError, match="has not ended in the userland after 0 s"):
        small.run("x.py", timeout=0.1)


@pytest.mark.parametrize("tool", [keep, validate])
def test_what_fails_in_the_guest_is_one_line(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("guest.py failed in the userland (1): ImportError")

    monkeypatch.setattr(tool, "CycleTable", lambda: None, raising=True)
    monkeypatch.setattr(tool, "measure", fails)
    assert tool.main([]) == 69
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith("guest.py failed in the userland (1): ImportError")
    )


def test_a_program_that_is_not_there_is_said_before_the_image_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "build", lambda *_: pytest.fail("built"))
    assert machine.main(["run", str(tmp_path / "none.py")]) == 2
    assert "none.py: no such file" in capsys.readouterr().err


def test_the_performance_page_says_what_is_kept() -> None:
    """docs/performance.md is generated; a figure edited by hand, or a figure not written again,
    fails here."""
    assert performance.PAGE.read_text() == performance.render(), (
        "run `python -m tools.a72.performance`"
    )


def test_decision_003_says_what_is_kept() -> None:
    table = ablate.as_markdown(fit.load_validation().coefficients)
    assert table in ablate.PAGE.read_text(), "run `python -m tools.a72.ablate`"


def test_the_default_bundle_keeps_the_promise_of_30_fps_and_100_mb() -> None:
    """Modelled, pessimistic, four threads, end to end; guest RSS. CI measures both figures again
    (tests/arm64)."""
    figures = keep.load_kept()
    frame = FrameModel(figures.stages, fit.load_validation().coefficients)
    assert frame.instructions == figures.instructions
    assert 1e3 / frame.ms(4, fit.PESSIMISTIC) >= 30
    assert figures.rss_mb <= 100
