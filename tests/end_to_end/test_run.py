"""A whole run, as a user starts it: real clips, real files, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from edge_runtime.records import json_schema
from tests.commands import need
from tests.daemon import EDGE_LABEL, records_of
from tests.paths import REPOSITORY


def test_a_real_drive_gives_a_valid_record_a_frame(
    videos: Path, default_bundle: Path, tmp_path: Path
):
    clip = next(videos.glob("udacity_solidWhiteRight*"))
    output = tmp_path / "run.jsonl"
    command = [
        *EDGE_LABEL,
        "--camera",
        str(clip),
        "--labels",
        "road",
        "--bundle",
        str(default_bundle),
    ]
    subprocess.run([*command, "--output", str(output)], check=True, timeout=300)
    records = records_of(output)
    assert [r["seq"] for r in records] == list(range(221))
    validator = jsonschema.Draft202012Validator(json_schema())
    for record in records:
        validator.validate(record)
        assert record["labels"]
        assert record["labels"] == sorted(record["labels"], key=lambda s: -s["score"])


@pytest.mark.parametrize(
    ("modality", "labels", "pack", "member"),
    [
        ("ir", "road", "eval.zip", "tno_ir_vis_pairs/ir/"),
        ("depth", "indoor", "distill.zip", "sevenscenes_rgbd/depth_mm16/"),
    ],
)
def test_real_infrared_and_depth_folders_are_labelled_by_the_bundle_for_them(
    shared: Path,
    default_bundle: Path,
    tmp_path: Path,
    modality: str,
    labels: str,
    pack: str,
    member: str,
):
    with zipfile.ZipFile(shared / "data" / pack) as archive:
        names = [name for name in archive.namelist() if member in name and not name.endswith("/")][
            :3
        ]
        for name in names:
            (tmp_path / Path(name).name).write_bytes(archive.read(name))
    command = [
        *EDGE_LABEL,
        "--camera",
        str(tmp_path),
        "--modality",
        modality,
        "--labels",
        labels,
        "--bundle",
    ]
    done = subprocess.run(
        [*command, default_bundle.with_name("edge-clip-multi")], capture_output=True, text=True
    )
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["modality"] for r in records] == [modality] * 3, done.stderr
    assert all(r["labels"] and r["state"] in ("ok", "unknown") for r in records)
    refused = subprocess.run([*command, default_bundle], capture_output=True, text=True)
    assert refused.returncode == 78
    assert modality in refused.stderr


@pytest.mark.fault("P1")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_in_order(tiny_bundle: Path, tmp_path: Path, number: int):
    output = tmp_path / "run.jsonl"
    command = [*EDGE_LABEL, "--camera", "demo", "--bundle", str(tiny_bundle), "--labels", "colours"]
    process = subprocess.Popen(
        [*command, "--output", str(output)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "delivering frames" in process.stderr.readline()
    process.send_signal(number)
    rest = process.communicate(timeout=5)[1]
    assert process.returncode == 0
    assert "peak RSS" in rest
    assert output.read_text().endswith("\n")
    for record in records_of(output):
        jsonschema.validate(record, json_schema())


@pytest.mark.fault("P3")
def test_memory_stays_flat_over_a_looped_video(videos: Path, tiny_bundle: Path, tmp_path: Path):
    """Slope under 1 MB per 10,000 frames; EDGE_LABEL_SOAK_FRAMES=20000 runs it long.

    Judged by the process's own (anonymous) memory. Pages of libraries come and go with the kernel's
    page cache, which on a fresh installation maps up to 2 MB of a file at one touch. RSS is printed
    beside it.
    """
    frames = int(os.environ.get("EDGE_LABEL_SOAK_FRAMES", "4000"))
    bundle = os.environ.get("EDGE_LABEL_SOAK_BUNDLE", str(tiny_bundle))
    labels = "road" if "EDGE_LABEL_SOAK_BUNDLE" in os.environ else "colours"
    clip = next(videos.glob("camvid*"))
    output = tmp_path / "run.jsonl"
    command = [
        *EDGE_LABEL,
        "--camera",
        str(clip),
        "--loop",
        "--frames",
        str(frames),
        "--output",
        str(output),
    ]
    own = []
    with subprocess.Popen([*command, "--bundle", bundle, "--labels", labels]) as process:
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            own += [
                float(line.split()[1]) / 1000
                for line in status.splitlines()
                if line.startswith("RssAnon:")
            ]
            time.sleep(0.05)
    assert process.returncode == 0
    rss = [r["rss_mb"] for r in records_of(output)[frames // 4 :]]
    settled = np.array(own[len(own) // 4 : -2])  # the last ones may see it leave
    slope = np.polyfit(np.linspace(0, 0.75 * frames, len(settled)), settled, 1)[0] * 10_000
    print(
        f"own memory {settled[0]:.1f} -> {settled[-1]:.1f} MB over {frames} frames: "
        f"{slope:.2f} MB per 10,000; RSS {rss[0]} -> {rss[-1]} MB"
    )
    assert len(settled) > 20
    assert slope < 1


# Complex because it reads what strace prints, call by call.
@pytest.mark.fault("N5")
def test_a_run_writes_no_file_of_its_own_and_opens_no_socket(tiny_bundle: Path, tmp_path: Path):
    """onnxruntime's telemetry would do both."""
    need("strace", "strace")
    home = tmp_path / "home"
    home.mkdir()
    trace = tmp_path / "trace"
    calls = "trace=socket,connect,sendto,sendmsg,open,openat,creat,mkdir,mkdirat"
    command = ["strace", "-f", "-qq", "-e", calls, "-o", str(trace)]
    command += [
        *EDGE_LABEL,
        "--camera",
        "demo",
        "--frames",
        "20",
        "--bundle",
        str(tiny_bundle),
        "--labels",
        "colours",
    ]
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    subprocess.run(
        command,
        check=True,
        env=env,
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        timeout=120,
    )
    lines = trace.read_text().splitlines()
    assert any("openat(" in line for line in lines), "the trace saw nothing"
    assert not [line for line in lines if "socket(" in line or "connect(" in line]
    written = [
        line
        for line in lines
        if "O_CREAT" in line or "mkdir" in line or "O_WRONLY" in line or "O_RDWR" in line
    ]
    assert [line for line in written if "/dev/" not in line and "/proc/" not in line] == []
    assert list(home.rglob("*")) == []
