"""The doctor survives what kills other programs, and says it in a sentence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.commands.doctor import doctor
from edge_runtime.commands.doctor.answers import Options
from edge_runtime.commands.doctor.doctor import Finding, run_check
from tests.daemon import EDGE_LABEL, REPOSITORY
from tests.tiny_text import write_tiny_text_encoder


def dying(number: int) -> list[str]:
    return [sys.executable, "-c", f"import os; os.kill(os.getpid(), {number})"]


@pytest.mark.fault("M13")
@pytest.mark.parametrize(
    ("number", "says", "advises"),
    [
        (signal.SIGILL, "instructions this processor does not have", "onnxruntime!=1.21"),
        (signal.SIGABRT, "crashes (SIGABRT)", "reinstall"),
        (signal.SIGSEGV, "crashes (SIGSEGV)", "reinstall"),
        (signal.SIGKILL, "killed", "memory"),
    ],
)
def test_a_library_that_kills_its_process_becomes_a_sentence(number: int, says: str, advises: str):
    (finding,) = run_check("onnxruntime", dying(number))
    assert finding.level == "fail"
    assert says in finding.text
    assert advises in finding.advice


@pytest.mark.fault("M13")
def test_a_real_illegal_instruction_on_import_is_survived(tmp_path: Path):
    """A module that executes ud2 (udf on ARM) on import, as a wheel for another processor does."""
    (tmp_path / "onnxruntime.py").write_text(
        "import ctypes, mmap\n"
        "page = mmap.mmap(-1, 4096, prot=7)\n"
        "page.write(b'\\x0f\\x0b' if __import__('platform').machine() == 'x86_64' else bytes(4))\n"
        "ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()\n"
    )
    command = [*EDGE_LABEL, "doctor", "--json", "--camera", "demo"]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=REPOSITORY, env=env, timeout=120
    )
    findings = {f["check"]: f for f in json.loads(done.stdout)["findings"]}
    assert "SIGILL" in findings["onnxruntime"]["text"]
    assert findings["heat"]["level"] in ("ok", "warn"), "the checks after it still ran"
    assert done.returncode == 1


def test_a_check_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "TIMEOUT_S", 0.5)
    (finding,) = run_check("camera", [sys.executable, "-c", "import time; time.sleep(60)"])
    assert "no answer" in finding.text


def test_an_import_error_is_its_own_last_line():
    (finding,) = run_check("numpy", [sys.executable, "-c", "import no_such_module"])
    assert finding.text == "ModuleNotFoundError: No module named 'no_such_module'"


def test_every_check_speaks_here(tiny_bundle: Path, tmp_path: Path):
    findings = doctor.examine(Options("demo", str(tiny_bundle), str(tmp_path / "run.jsonl")))
    assert {f.check for f in findings} == set(doctor.CHECKS)
    assert [f for f in findings if f.level == "fail"] == []
    assert json.loads(doctor.to_json(findings))["ok"] is True
    assert doctor.to_text(findings).endswith("\nfound no problem")


def test_a_damaged_bundle_is_found(tiny_bundle: Path):
    (tiny_bundle / "encoder.onnx").write_bytes(b"x")
    (finding,) = run_check("bundle", doctor.command("bundle"), Options(bundle=str(tiny_bundle)))
    assert finding.level == "fail"
    assert "reinstall" in finding.advice


def test_only_a_library_is_to_be_reinstalled_and_by_the_name_that_pip_knows():
    (finding,) = run_check("opencv", dying(signal.SIGSEGV))
    assert finding.advice.endswith("-m pip install --force-reinstall opencv-python-headless")


def test_the_label_set_of_a_configuration_is_looked_at(tiny_bundle: Path, tmp_path: Path):
    def labels(name: str) -> Finding:
        options = Options(bundle=str(tiny_bundle), labels=name)
        (finding,) = run_check("labels", doctor.command("labels"), options)
        return finding

    (tmp_path / "my.yaml").write_text("labels: [{name: overturned lorry}]")
    assert (labels("colours").level, labels("colours").text) == (
        "ok",
        "colours: 3 labels to report",
    )
    refused = labels(str(tmp_path / "my.yaml"))
    assert (refused.level, "my.yaml" in refused.text + refused.advice) == ("fail", True)

    write_tiny_text_encoder(tiny_bundle.parent / "text-encoder")
    new = labels(str(tmp_path / "my.yaml"))
    assert new.level == "ok"
    assert "my.yaml: 1 labels to report, 1 new phrases, which tiny-text-1.0.0 " in new.text
    assert not (tmp_path / "my.embeddings").exists()


def test_findings_are_lines_with_their_advice_below():
    text = doctor.to_text(
        [Finding("camera", "fail", "not there", "plug it in"), Finding("clock", "ok", "noon")]
    )
    assert text.splitlines() == [
        "fail  camera       not there",
        "                   -> plug it in",
        "ok    clock        noon",
        "found 1 problem",
    ]
