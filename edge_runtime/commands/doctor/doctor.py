"""``edge-label doctor``: what is wrong with this machine, in sentences.

Every check runs in a process of its own: ``python -m edge_runtime.commands.doctor.checks CHECK``.
The commonest fault on a Raspberry Pi, a library built for another processor, ends the process that
imports it. The parent stays alive and explains what happened, so it must never import a library
that a check looks at; ``checks.py`` imports them inside the checks.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from edge_runtime.commands.doctor.answers import Level, Options
from edge_runtime.commands.doctor.checks import CHECKS
from edge_runtime.secrecy import masked
from edge_runtime.system import child

TIMEOUT_S = 60

# What pip calls the library behind a check; the other checks are about no library.
_PACKAGES = {"numpy": "numpy", "opencv": "opencv-python-headless", "onnxruntime": "onnxruntime"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer of one check; ``advice`` says what to do where something can be done."""

    check: str
    level: Level
    text: str
    advice: str = ""


def examine(options: Options) -> list[Finding]:
    """Run every check, each in its own process."""
    return [finding for name in CHECKS for finding in run_check(name, command(name), options)]


def to_text(findings: Sequence[Finding]) -> str:
    """One line a finding, its advice below it, and how many problems there are."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<5} {finding.check:<12} {finding.text}")
        if finding.advice:
            lines.append(f"{'':<19}-> {finding.advice}")

    problems = sum(finding.level == "fail" for finding in findings)
    if problems == 0:
        lines.append("found no problem")
    else:
        lines.append(f"found {problems} problem{'s' if problems > 1 else ''}")
    return "\n".join(lines)


def to_json(findings: Sequence[Finding]) -> str:
    """For programs: schema, verdict and findings."""
    report = {
        "schema": "edge-label-doctor/1",
        "ok": all(finding.level != "fail" for finding in findings),
        "findings": [asdict(finding) for finding in findings],
    }
    return json.dumps(report, indent=2)


def command(name: str) -> list[str]:
    """The process of a check."""
    return child.command("edge_runtime.commands.doctor.checks", name)


def run_check(name: str, command: Sequence[str], options: Options | None = None) -> list[Finding]:
    """What the process of a check answered, or, if it died, what its death means.

    The process reads ``options`` from a pipe: they may hold the camera's password, and ``ps`` shows
    arguments to everybody.
    """
    request = json.dumps(asdict(options or Options()))
    try:
        process = subprocess.run(  # noqa: S603
            command,
            input=request,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        text = f"no answer within {TIMEOUT_S} s"
        return [Finding(name, "fail", text, "a driver or a disk hangs; see dmesg")]

    if process.returncode < 0:
        return [_death(name, -process.returncode)]
    try:
        return [Finding(name, **answer) for answer in json.loads(process.stdout)]
    except (ValueError, TypeError):
        # Python wrote a traceback in place of the answers; its last line says why.
        reason = child.last_line(process.stderr) or "no output"
        return [Finding(name, "fail", masked(reason), _reinstall(name))]


def _death(name: str, number: int) -> Finding:
    """What it means that a signal ended the process of a check."""
    match number:
        case signal.SIGILL:
            text = f"{name} uses instructions this processor does not have (SIGILL)"
            advice = (
                "onnxruntime 1.21 does so on a Raspberry Pi 4: pip install 'onnxruntime!=1.21.*'; "
                "otherwise install a 64-bit system"
            )
        case signal.SIGKILL:
            text = f"{name} was killed (SIGKILL)"
            advice = "most likely too little memory: close programs, or add swap"
        case _:
            text = f"{name} crashes ({signal.Signals(number).name})"
            advice = f"its installation is damaged or for another system: {_reinstall(name)}"
    return Finding(name, "fail", text, advice)


def _reinstall(name: str) -> str:
    package = _PACKAGES.get(name, "edge-label")
    return f"{sys.executable} -m pip install --force-reinstall {package}"
