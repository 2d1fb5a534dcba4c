"""The command line: instant help, one-line errors, the promised exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from edge_runtime import cli
from edge_runtime.arguments import parse
from edge_runtime.errors import ConfigError
from tests.daemon import EDGE_LABEL, REPOSITORY


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge_runtime", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_help_imports_nothing_heavy():
    libraries = {"cv2", "onnxruntime", "yaml", "numpy"}
    code = f"import sys, edge_runtime.cli; print({libraries} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["bench", "--help"], ["once", "--help"], ["--version"]],
)
def test_help_teaches(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 0
    assert "edge-label" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--frames", "0"], 2, "more than zero"),
        (["--frames", "x"], 2, "'x' is not a whole number"),
        (["--camera", "demo", "--threads", "99"], 2, "model.threads must be between 1 and 64"),
        (["--nonsense"], 2, "unrecognized arguments"),
        (["run", "--camrea", "0"], 2, "did you mean --camera?; see edge-label run --help"),
        (["frobnicate"], 2, "invalid choice: 'frobnicate' (choose from run, once, bench, labels,"),
        (["bnech"], 2, "invalid choice: 'bnech'; did you mean bench?; see edge-label --help"),
        (["labels", "serach"], 2, "did you mean search?; see edge-label labels --help"),
        (["run", "--modality", "deth"], 2, "argument --modality: invalid choice: 'deth'; did you"),
        (["--camera", ""], 66, "--camera is empty"),
        (["--camera", "none.mp4"], 66, "no such file"),
        (["--camera", "{bad}"], 65, "not a video"),
        (["--camera", "/dev/video99", "--exit-on-device-error"], 69, "no such camera"),
        (["--config", "{unknown_key}"], 78, "did you mean 'camera'?"),
        (["--config", "none.yaml"], 66, "no such configuration file"),
        (["--camera", "demo", "--labels", "colour"], 66, "did you mean 'colours'?"),
        (["--camera", "demo", "--labels", "{empty_name}"], 78, "is empty"),
        (["--camera", "demo", "--labels", "{duplicate}"], 78, "given twice"),
        (["--camera", "demo", "--output", "/nowhere/run.jsonl"], 78, "cannot write there"),
        (["once", "none.png"], 66, "no such file"),
        (["bundle", "verify", "{folder}"], 78, "manifest.json: missing"),
        (["labels", "list", "none"], 66, "no such label set"),
    ],
)
def test_a_mistake_is_one_line_and_its_exit_code(
    tmp_path: Path,
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    says: str,
):
    files = {
        "bad": b"not a video",
        "unknown_key": b"camrea:\n  source: demo\n",
        "empty_name": b"labels:\n  - name: '  '\n",
        "duplicate": b"labels:\n  - name: red\n  - name: red\n",
    }
    for name, content in files.items():
        (tmp_path / name).with_suffix(".mp4" if name == "bad" else ".yaml").write_bytes(content)
    places = {
        name: str((tmp_path / name).with_suffix(".mp4" if name == "bad" else ".yaml"))
        for name in files
    }
    monkeypatch.setenv("EDGE_LABEL_BUNDLE", str(tiny_bundle))
    if not {"--labels", "bundle", "labels", "--config"} & set(arguments):
        arguments = (
            [*arguments, "--labels", "colours"]
            if arguments[0] not in ("frobnicate", "bnech")
            else arguments
        )
    result = run(*(a.format(folder=tmp_path, **places) for a in arguments))

    assert result.returncode == code, result.stderr
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""


def closed(path: Path) -> None:
    """What the system says to a user who may not even look at a file."""
    raise PermissionError(13, "Permission denied", str(path))


@pytest.mark.parametrize(
    "arguments", [["once", "closed/x.jpg"], ["report", "x.jsonl"], ["bundle", "info", "x"]]
)
def test_what_a_user_may_not_even_look_at_is_one_line_and_65(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
):
    for method in ("is_dir", "is_file", "exists"):
        monkeypatch.setattr(Path, method, closed)
    assert cli.main(arguments) == 65
    error = capsys.readouterr().err
    assert error == f"edge-label: {arguments[-1]}: Permission denied; check it with ls -ld\n"


@pytest.mark.parametrize(
    "arguments", [["once", "{picture}", "--labels", "colours"], ["labels", "list", "colours"]]
)
def test_a_full_standard_output_is_one_line_and_65(
    tiny_bundle: Path, tmp_path: Path, arguments: list[str]
):
    picture = tmp_path / "red.png"
    Image.new("RGB", (64, 64), "red").save(picture)
    command = [
        *EDGE_LABEL,
        *(a.format(picture=picture) for a in arguments),
        "--bundle",
        str(tiny_bundle),
    ]

    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY, timeout=60
        )

    assert result.returncode == 65
    assert "standard output: No space left on device" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_options_override_the_file(tmp_path: Path):
    path = tmp_path / "c.yaml"
    path.write_text("camera: {source: a.mp4, width: 320}\nmodel: {labels: road}\n")
    options = parse(["run", "--config", str(path), "--camera", "b.mp4", "--loop"])
    config = cli._config(options)
    assert (config.camera.source, config.camera.width, config.camera.loop) == ("b.mp4", 320, True)
    assert config.model.labels == "road"


def test_once_labels_pictures_with_their_names(tiny_bundle: Path, tmp_path: Path):
    import cv2
    import numpy as np

    cv2.imwrite(str(tmp_path / "r.png"), np.full((40, 40, 3), (0, 0, 255), np.uint8))
    result = run(
        "once",
        str(tmp_path / "r.png"),
        str(tmp_path / "r.png"),
        "--bundle",
        str(tiny_bundle),
        "--labels",
        "colours",
    )
    records = [json.loads(line) for line in result.stdout.splitlines()]

    assert [r["file"] for r in records] == [str(tmp_path / "r.png")] * 2
    assert [r["labels"][0]["name"] for r in records] == ["red", "red"]
    assert [r["seq"] for r in records] == [0, 1]


def test_a_depth_picture_and_an_rgb_bundle_are_one_line_and_78(tiny_bundle: Path, tmp_path: Path):
    import cv2
    import numpy as np

    cv2.imwrite(str(tmp_path / "d.png"), np.full((40, 40), 1234, np.uint16))
    model = ("--bundle", str(tiny_bundle), "--labels", "colours")

    for result in (
        run("once", str(tmp_path / "d.png"), *model, "--modality", "depth"),
        run("--camera", str(tmp_path), *model, "--modality", "ir"),
    ):
        assert result.returncode == 78
        assert len(result.stderr.strip().splitlines()) == 1
        assert "trained for rgb only" in result.stderr


def test_bundle_and_labels_describe_themselves(tiny_bundle: Path):
    assert "all good" in run("bundle", "verify", str(tiny_bundle)).stdout
    assert json.loads(run("bundle", "verify", str(tiny_bundle), "--json").stdout)["ok"] is True
    assert "test/tiny" in run("bundle", "info", str(tiny_bundle)).stdout
    assert json.loads(run("bundle", "info", str(tiny_bundle), "--json").stdout)["name"] == "tiny"
    assert "colours" in run("labels", "list", "--bundle", str(tiny_bundle)).stdout
    assert (
        "colour: red, green, blue"
        in run("labels", "list", "colours", "--bundle", str(tiny_bundle)).stdout
    )


def test_a_closed_pipe_is_a_quiet_end(tiny_bundle: Path):
    program = f"{sys.executable} -m edge_runtime --camera demo"
    command = f"{program} --bundle {tiny_bundle} --labels colours | head -n 2"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert len(result.stdout.splitlines()) == 2
    assert "Traceback" not in result.stderr


def test_preview_options_go_on_top_of_the_files_section(tmp_path: Path):
    path, token = tmp_path / "c.yaml", tmp_path / "token"
    path.write_text("preview: {listen: '127.0.0.1:9000'}\n")
    token.write_text("0123456789abcdef")

    def preview(*arguments: str):
        return cli._config(parse(["run", *arguments])).preview

    assert preview() is None, "off unless asked for"
    assert preview("--preview").listen == "127.0.0.1:8080"
    assert (
        preview("--config", str(path), "--preview-token-file", str(token)).listen
        == "127.0.0.1:9000"
    )
    assert preview("--preview", "0.0.0.0:80", "--preview-token-file", str(token)).token_file == str(
        token
    )
    with pytest.raises(ConfigError, match=r"--preview: .*token"):
        preview("--preview", "0.0.0.0:80")
    path.write_text("prometheus: {listen: '127.0.0.1:8080'}\n")
    with pytest.raises(ConfigError, match=r"--preview: .*another port"):
        preview("--config", str(path), "--preview")


def test_an_archive_is_installed_and_is_then_the_bundle_that_runs(
    tiny_bundle: Path, tmp_path: Path
):
    archive, store = tmp_path / "tiny.tar", tmp_path / "store"
    subprocess.run(["tar", "cf", archive, "-C", tiny_bundle.parent, tiny_bundle.name], check=True)
    result = run("bundle", "install", str(archive), "--store", str(store))

    assert (result.returncode, "tiny-1.0.0 installed" in result.stdout) == (0, True), result.stderr
    assert (
        json.loads(run("bundle", "info", "--json", str(store / "current")).stdout)["name"] == "tiny"
    )


def test_a_run_can_be_reported_from_the_command_line(tiny_bundle: Path, tmp_path: Path):
    output = tmp_path / "run.jsonl"
    model = ("--bundle", str(tiny_bundle), "--labels", "colours")
    assert run("--camera", "demo", *model, "--frames", "5", "--output", str(output)).returncode == 0
    result = run("report", str(output))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run.html").read_text().startswith("<!DOCTYPE html>")


def test_the_doctor_exits_1_when_something_must_be_mended(tiny_bundle: Path):
    model = ("--bundle", str(tiny_bundle), "--json")
    missing = run("doctor", "--camera", "/dev/video99", *model)
    assert missing.returncode == 1
    assert [f["check"] for f in json.loads(missing.stdout)["findings"] if f["level"] == "fail"] == [
        "camera"
    ]


def test_ctrl_c_outside_a_run_is_a_quiet_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edge_runtime.commands.once.label_pictures", interrupted)
    assert cli.main(["once", "x.png"]) == 130
    assert capsys.readouterr().err == ""
