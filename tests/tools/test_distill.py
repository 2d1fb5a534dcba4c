"""Distillation: the same bits after a resume, in one process or two, and bad input that stops with
one line."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs edge-label[train]")
pytest.importorskip("transformers", reason="needs edge-label[train]")

from edge_runtime.errors import DataError  # noqa: E402
from tests.doubles.ports import free_port  # noqa: E402
from tests.paths import REPOSITORY  # noqa: E402
from tools import distill  # noqa: E402
from tools.factory.data.arrays import write_array  # noqa: E402
from tools.factory.recipe import load_recipe  # noqa: E402
from tools.factory.students.student import build_student  # noqa: E402
from tools.factory.training.checkpoint import read_checkpoint  # noqa: E402


def run(recipe: str, data: Path, output: Path, *options: str) -> int:
    """The verb in this process; the recipe lies beside the output."""
    path = output.parent / f"{output.name}.yaml"
    path.write_text(recipe)
    common = ["--data", str(data), "--output", str(output), "--quiet", "--device", "cpu"]
    return distill.main([str(path), *common, *options])


def weights_of(run_folder: Path) -> dict[str, torch.Tensor]:
    """Trained and averaged weights of a run."""
    state = read_checkpoint(run_folder / "checkpoint.pt")
    return {
        f"{part}.{name}": t for part in ("student", "average") for name, t in state[part].items()
    }


def same_bits(a: Path, b: Path) -> bool:
    """Whether two runs ended in the same weights."""
    first, second = weights_of(a), weights_of(b)
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_resumed_run_ends_in_the_same_bits(
    recipe_text: str, colour_pictures: Path, tmp_path: Path
) -> None:
    assert run(recipe_text, colour_pictures, tmp_path / "whole") == 0
    assert run(recipe_text, colour_pictures, tmp_path / "cut", "--steps", "3") == 0
    assert read_checkpoint(tmp_path / "cut" / "checkpoint.pt")["step"] == 3
    assert not same_bits(tmp_path / "whole", tmp_path / "cut")
    torch.manual_seed(99)  # a fresh process would not stand where the first one stopped either
    assert run(recipe_text, colour_pictures, tmp_path / "cut", "--resume") == 0
    assert same_bits(tmp_path / "whole", tmp_path / "cut")
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("whole", "cut")]
    scores = [
        [json.loads(line)["validation"] for line in log if "validation" in line] for log in logs
    ]
    assert scores[0]
    assert scores[0] == scores[1]


def test_stored_views_and_stems_train_and_resume(
    recipe_text: str, colour_pictures: Path, tmp_path: Path
) -> None:
    """Replayed views, and training that starts behind the frozen layers."""
    stored = recipe_text.replace(
        "name: mobilenetv4_conv_small", "name: mobilenetv4_conv_small\n  frozen: 4"
    )
    stored += "targets: {views: 2, stem: true}\n"
    assert run(stored, colour_pictures, tmp_path / "whole") == 0
    assert run(stored, colour_pictures, tmp_path / "cut", "--steps", "2") == 0
    assert run(stored, colour_pictures, tmp_path / "cut", "--resume") == 0
    assert same_bits(tmp_path / "whole", tmp_path / "cut")
    begun, ended = (
        weights_of(tmp_path / "whole")[f"student.backbone.layers.{i}.conv.weight"] for i in (0, 4)
    )
    assert begun.shape != ended.shape
    fresh = build_student(load_recipe(tmp_path / "whole.yaml").student, 16)
    torch.manual_seed(3)
    fresh = build_student(load_recipe(tmp_path / "whole.yaml").student, 16)
    assert torch.equal(begun, fresh.backbone.layers[0].conv.weight), "a frozen layer moved"
    assert not torch.equal(ended, fresh.backbone.layers[4].conv.weight), "a trained layer did not"


def test_two_processes_share_the_batches_and_one_can_go_on_alone(
    recipe_text: str, colour_pictures: Path, tmp_path: Path
) -> None:
    """torchrun on gloo: two processes of batch 4 take as many steps as one of batch 8, validate and
    save once."""
    path = tmp_path / "two.yaml"
    path.write_text(recipe_text.replace("batch: 8", "batch: 4"))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        str(free_port()),
    ]
    command += [
        "-m",
        "tools.distill",
        str(path),
        "--data",
        str(colour_pictures),
        "--output",
        str(tmp_path / "two"),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--device", "cpu", "--quiet"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    state = read_checkpoint(tmp_path / "two" / "checkpoint.pt")
    steps = state["step"]
    assert run(recipe_text, colour_pictures, tmp_path / "one") == 0
    assert steps == read_checkpoint(tmp_path / "one" / "checkpoint.pt")["step"]
    log = [json.loads(line) for line in (tmp_path / "two" / "log.jsonl").read_text().splitlines()]
    assert steps == log[-1]["step"]
    assert sum("validation" in entry for entry in log) == len(
        {e["step"] for e in log if "validation" in e}
    )
    assert run(path.read_text(), colour_pictures, tmp_path / "two", "--resume") == 0, (
        "one process could not go on"
    )


@pytest.mark.parametrize(
    ("change", "said", "code"),
    [
        (("name: mobilenetv4_conv_small", "name: mobilnet_v2"), "did you mean 'mobilenet_v2'", 2),
        (
            ("name: mobilenetv4_conv_small", "name: resnet"),
            "mobilenet_v2, mobilenetv4_conv_small",
            2,
        ),
        (("dropout: 0.2", "dropuot: 0.2"), "did you mean 'dropout'", 78),
        (("size: 32,", "size: big,"), "must be a whole number", 78),
        (("path: colours", "path: nowhere"), "no such folder", 66),
        (
            ("label: folder", "label: folder, texts: TEXTS"),
            "label 'lake' of 'colours' has no text",
            78,
        ),
        (("validation: 0.2", "validation: 1"), "no picture is left to train on", 65),
    ],
)
def test_a_wrong_recipe_stops_with_one_line_and_writes_no_checkpoint(
    change: tuple[str, str],
    said: str,
    code: int,
    recipe_text: str,
    colour_pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts = tmp_path / "texts.yaml"
    texts.write_text("cab: a cab\nfog: fog\nhill: a hill\n")
    recipe = recipe_text.replace(*change).replace("TEXTS", str(texts))
    assert run(recipe, colour_pictures, tmp_path / "out") == code
    error = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("tools.distill: ")
    ]
    assert len(error) == 1
    assert said in error[0]
    assert not (tmp_path / "out" / "checkpoint.pt").exists()


def test_an_unknown_teacher_lists_those_that_exist(
    recipe_text: str, colour_pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = "\n".join(
        "teacher: {name: klip}" if line.startswith("teacher:") else line
        for line in recipe_text.splitlines()
    )
    assert run(recipe, colour_pictures, tmp_path / "out") == 2
    assert "offline" in capsys.readouterr().err


def test_a_bank_of_another_text_space_is_refused(
    recipe_text: str, colour_pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "bank.npy", np.eye(16, dtype=np.float32))
    recipe = recipe_text.replace(str(tmp_path / "bank.txt"), str(tmp_path / "bank.npy"))
    assert run(recipe, colour_pictures, tmp_path / "out") == 78
    assert "text space openai/clip-vit-base-patch32" in capsys.readouterr().err


def test_an_empty_folder_is_named(
    recipe_text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pictures" / "colours").mkdir(parents=True)
    assert run(recipe_text, tmp_path / "pictures", tmp_path / "out") == 65
    assert "source 'colours' holds no pictures" in capsys.readouterr().err


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(
    recipe_text: str, colour_pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(recipe_text, colour_pictures, tmp_path / "out", "--steps", "2") == 0
    good = (tmp_path / "out" / "checkpoint.pt").read_bytes()
    state = read_checkpoint(tmp_path / "out" / "checkpoint.pt")
    state["student"]["head.0.weight"].fill_(float("nan"))
    torch.save(state, tmp_path / "out" / "checkpoint.pt")
    spoilt = (tmp_path / "out" / "checkpoint.pt").read_bytes()
    assert spoilt != good
    assert run(recipe_text, colour_pictures, tmp_path / "out", "--resume") == 70
    assert "the loss is nan" in capsys.readouterr().err
    assert (tmp_path / "out" / "checkpoint.pt").read_bytes() == spoilt, (
        "it saved after the loss was lost"
    )


def test_a_full_disk_leaves_the_old_checkpoint(
    recipe_text: str, colour_pictures: Path, tmp_path: Path
) -> None:
    """The kernel refuses files of more than a megabyte from here on, as a full disk refuses the
    next block."""
    assert run(recipe_text, colour_pictures, tmp_path / "out", "--steps", "2") == 0
    before = (tmp_path / "out" / "checkpoint.pt").read_bytes()
    command = [
        sys.executable,
        "-m",
        "tools.distill",
        str(tmp_path / "out.yaml"),
        "--data",
        str(colour_pictures),
    ]
    command += ["--output", str(tmp_path / "out"), "--resume", "--device", "cpu", "--quiet"]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
    )
    assert done.returncode == 65, done.stderr[-2000:]
    assert "cannot write" in done.stderr
    assert (tmp_path / "out" / "checkpoint.pt").read_bytes() == before
    assert sorted(p.name for p in (tmp_path / "out").glob(".*")) == [], "half a file was left"


def test_half_an_array_is_never_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "views.npy"
    write_array(path, np.arange(3))
    whole = path.read_bytes()

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="No space left"):
        write_array(path, np.arange(9))
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


def test_a_second_run_does_not_overwrite_the_first(
    recipe_text: str, colour_pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(recipe_text, colour_pictures, tmp_path / "out", "--steps", "1") == 0
    assert run(recipe_text, colour_pictures, tmp_path / "out") == 2
    assert "add --resume" in capsys.readouterr().err
    other = recipe_text.replace("seed: 3", "seed: 4")
    assert run(other, colour_pictures, tmp_path / "out", "--resume") == 78
    assert "another recipe" in capsys.readouterr().err
