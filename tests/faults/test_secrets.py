"""A secret in every place that takes one, and a look at everything that left the program."""

from __future__ import annotations

import os
import random
import signal
import string
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import edge_runtime
from tests.commands import need, need_mosquitto
from tests.daemon import EDGE_LABEL, REPOSITORY, Daemon, records_of, wait_until, write_config
from tests.doubles.mjpeg_camera import MjpegCamera
from tests.doubles.mosquitto import Broker
from tests.doubles.ports import free_port

# Letters only, or the rule for strings drawn by lot would hide it; another one each time, so that
# nothing else has it.
SECRET = "".join(random.choices(string.ascii_lowercase, k=12))


def secret(place: str) -> str:
    """The secret of one place; 16 characters at least, as a token must have."""
    return f"{SECRET}-{place}"


def found_in(where: str, data: bytes | str) -> list[str]:
    """Nothing, or a sentence that says where the secret stands."""
    data = data.encode() if isinstance(data, str) else data
    at = data.find(SECRET.encode())
    return [f"{where}: {data[max(0, at - 80) : at + 60]!r}"] if at >= 0 else []


@contextmanager
def watched(*but: str) -> Iterator[list[str]]:
    """Argument lists and environments of all processes, looked at all the time.

    Those that name ``but`` may hold a secret: the hook whose configured arguments they are, and the
    test's own client.
    """
    seen: dict[str, None] = {}
    end = threading.Event()

    def look() -> None:
        while not end.is_set():
            for process in Path("/proc").glob("[0-9]*"):
                for kind in ("cmdline", "environ"):
                    try:
                        data = (process / kind).read_bytes()
                    except OSError:
                        continue
                    if not any(word.encode() in data for word in but):
                        seen.update(dict.fromkeys(found_in(kind, data)))
            end.wait(0.005)

    found: list[str] = []
    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        end.set()
        thread.join()
        found += seen


def private(path: Path, text: str) -> Path:
    path.touch(0o600)
    path.write_text(text)
    return path


def read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def ask(port: int, path: str, token: str) -> bytes:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(answer.headers).encode() + answer.read()


def _everything_on(
    bundle: Path, given: Path, out: Path, address: str, ports: tuple[int, int, int]
) -> Path:
    """A configuration with every sink on; ``ports`` are those of broker, metrics and page."""
    broker, metrics, preview = ports
    return write_config(
        given / "all.yaml",
        bundle,
        camera={"source": address},
        output={"file": str(out / "records.jsonl"), "stdout": True},
        mqtt={
            "host": "127.0.0.1",
            "port": broker,
            "device": "porch",
            "every_s": 0.5,
            "credentials_file": str(private(given / "credentials", f"pi:{secret('mqtt')}\n")),
        },
        prometheus={
            "listen": f"127.0.0.1:{metrics}",
            "token_file": str(private(given / "metrics-token", secret("metrics"))),
            "textfile": str(out / "edge.prom"),
            "every_s": 1,
        },
        triggers={
            "spool": str(out / "spool"),
            "hook": [str(given / "hook.sh"), "--token", f"--password={secret('hook')}"],
            "rules": [{"name": "all", "min_distance": 0.001, "min_interval_s": 0}],
        },
        preview={
            "listen": f"127.0.0.1:{preview}",
            "token_file": str(private(given / "preview-token", secret("preview"))),
        },
    )


def _wrong_configurations(good: str, given: Path, address: str) -> list[str]:
    """Each has a secret where none belongs, so the error about it may quote a secret."""
    return [
        good.replace('"porch"', f'"{address}"'),
        good.replace('"preview": {', f'"preview": {{"password": "{secret("key")}", '),
        good.replace('"every_s": 1', f'"every_s": "{address}"'),
        good.replace(str(given / "credentials"), secret("instead")),
        good.replace(str(given / "preview-token"), secret("instead")),
        good.replace('"127.0.0.1", "port"', f'"mqtt://pi:{secret("host")}@127.0.0.1", "port"'),
        good.replace(f'"{address}"', f"!{secret('tag')}"),
    ]


def _report(out: Path) -> subprocess.CompletedProcess[bytes]:
    files = [out / "records.jsonl", "--spool", out / "spool", "--png", out / "run.png"]
    return subprocess.run(
        [*EDGE_LABEL, "report", *files], cwd=REPOSITORY, capture_output=True, check=True
    )


# Long because one daemon must be running while all its outputs are looked through.
@pytest.mark.fault("K2")
def test_no_secret_leaves_a_daemon_with_everything_switched_on(tiny_bundle: Path, tmp_path: Path):
    """Real broker and camera, every sink; the camera leaves and returns, reloads are refused."""
    need_mosquitto()
    given = tmp_path / "given"
    out = tmp_path / "out"
    given.mkdir()
    out.mkdir()
    make_password = [need("mosquitto_passwd", "mosquitto"), "-c", "-b"]
    subprocess.run([*make_password, given / "passwords", "pi", secret("mqtt")], check=True)
    (given / "passwords").chmod(0o644)
    hook = given / "hook.sh"
    hook.write_text("#!/bin/sh\nsleep 0.3\n")
    hook.chmod(0o755)
    preview = free_port()
    metrics = free_port()
    with (
        Broker(given, "allow_anonymous false", f"password_file {given / 'passwords'}") as broker,
        MjpegCamera() as camera,
    ):
        address = camera.url.replace("://", f"://admin:{secret('user')}@")
        address += f"?user=admin&pwd={secret('query')}"
        config = _everything_on(tiny_bundle, given, out, address, (broker.port, metrics, preview))
        stdout = (out / "stdout").open("wb")
        with (
            watched("hook.sh", "mosquitto_sub") as found,
            Daemon(out, "--config", config, "--verbose", stdout=stdout) as daemon,
        ):
            daemon.wait_for("READY=1")
            wait_until(
                lambda: any(r["state"] != "stale" for r in records_of(out / "records.jsonl")),
                what="a frame",
            )
            wait_until(lambda: "connected to" in daemon.log, what="the broker")
            wait_until(lambda: list((out / "spool").glob("*.json")), what="a capture")

            camera.unplug()
            daemon.wait_for("no device")
            camera.plug_in()
            wait_until(lambda: "again, after" in daemon.log, what="the camera again")
            good = config.read_text()
            for bad in _wrong_configurations(good, given, address):
                assert bad != good
                config.write_text(bad)
                daemon.process.send_signal(signal.SIGHUP)
                daemon.wait_for("READY=1")
            config.write_text(good)
            ask_preview = [
                ask(preview, path, secret("preview")) for path in ("/", "/state", "/picture.jpg")
            ]
            ask_metrics = ask(metrics, "/metrics", secret("metrics"))
            textfile = wait_until(lambda: read(out / "edge.prom"), what="the metrics' file")
            heard = broker.listen(20, "-u", "pi", "-P", secret("mqtt"), topic="#", timeout_s=3)
            limits = Path(f"/proc/{daemon.process.pid}/limits").read_text()
            assert daemon.stop() == 0
        stdout.close()
    assert {topic for topic, _ in heard} >= {
        "edge-label/porch/state",
        "homeassistant/device/edge-label-porch/config",
    }
    assert "Max core file size        0" in limits
    assert (
        "hook: one of its arguments is a password, which every user can see with ps" in daemon.log
    )
    for place, data in zip(
        ("page", "state", "picture", "metrics", "textfile"),
        (*ask_preview, ask_metrics, textfile),
        strict=True,
    ):
        found += found_in(place, data)
    for topic, payload in heard:
        found += found_in(f"mqtt {topic}", topic + payload)
    for message in daemon.heard:
        found += found_in("sd_notify", message)
    found += found_in("configured name", str(records_of(out / "records.jsonl")[0]["camera"]))

    report = _report(out)
    found += found_in("report", report.stdout + report.stderr)
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".jsonl", ".json", ".jpg", ".html", ".png"}
    for path in files:
        found += found_in(path.name, path.read_bytes())
    assert not found, "\n".join(found)
    assert records_of(out / "records.jsonl")[0]["camera"].startswith("http://***@127.0.0.1:")


@pytest.mark.fault("K2")
def test_the_doctor_hands_a_password_to_its_children_on_a_pipe(tiny_bundle: Path, tmp_path: Path):
    source = f"rtsp://admin:{secret('user')}@127.0.0.1:9/s"
    config = write_config(tmp_path / "config.yaml", tiny_bundle, camera={"source": source})
    config.chmod(0o600)
    for more in ((), ("--json",)):
        with watched() as found:
            done = subprocess.run(
                [*EDGE_LABEL, "doctor", "--config", config, *more],
                cwd=REPOSITORY,
                capture_output=True,
            )
        assert b"rtsp://***@127.0.0.1:9/s: not a local camera" in done.stdout, done.stderr
        assert not found + found_in("doctor", done.stdout + done.stderr)


MISTAKES = (
    ("run", "--camera", "rtsp:/u:<S>@h/s"),
    ("run", "--camera", "rtsp//u:<S>@h/s"),
    ("run", "--camera", "u:<S>@h:554/s"),
    ("run", "--camera", "rtsp://admin:<S>/x@127.0.0.1:9/s", "--exit-on-device-error"),
    (
        "run",
        "--camera",
        "rtsp://u:<S>@127.0.0.1:9/user=admin_password=<S>_channel=1",
        "--exit-on-device-error",
    ),
    ("run", "--camera", "http://127.0.0.1:9/v.cgi?user=admin&pwd=<S>", "--exit-on-device-error"),
    ("run", "--camera", "http://127.0.0.1:9/" + "<S>" * 600 + "@", "--exit-on-device-error"),
    ("run", "--camera", "rtsp:/u:" + "<S>" * 400 + "@h"),
    ("run", "--camra", "rtsp://u:<S>@h/s"),
    ("run", "--password", "<S>"),
    ("run", "--password=<S>"),
    ("run", "--preview", "http://u:<S>@127.0.0.1:80/"),
    ("run", "--preview", "--preview-token-file", "<S>"),
    ("run", "rtsp://u:<S>@h/s"),
    ("rtsp://u:<S>@h/s",),
    ("bench", "--camera", "rtsp://u:<S>@127.0.0.1:9/s", "--seconds", "0.1"),
    ("once", "rtsp://u:<S>@h/s.jpg"),
    ("report", "rtsp://u:<S>@h/s.jsonl"),
    ("run", "--config", "rtsp://u:<S>@h/s"),
    ("run", "--camera", "demo", "--labels", "rtsp://u:<S>@h/s"),
    ("run", "--camera", "demo", "--output", "/nowhere/rtsp:/u:<S>@h/s"),
)


@pytest.mark.fault("K2")
@pytest.mark.parametrize("arguments", MISTAKES, ids=lambda arguments: " ".join(arguments)[:60])
def test_no_message_about_a_mistake_repeats_a_password(
    tiny_bundle: Path, arguments: tuple[str, ...]
):
    command = [*EDGE_LABEL, *(argument.replace("<S>", SECRET) for argument in arguments)]
    if arguments[0] in ("run", "bench", "once"):
        command += [
            "--bundle",
            str(tiny_bundle),
            *(() if "--labels" in arguments else ("--labels", "colours")),
        ]
    # Levels that somebody set for another program: OpenCV and FFmpeg would print the address with
    # all of it.
    loud = {"OPENCV_LOG_LEVEL": "DEBUG", "OPENCV_FFMPEG_LOGLEVEL": "56", "OPENCV_FFMPEG_DEBUG": "1"}
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, **loud},
        capture_output=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode in (2, 65, 66, 69, 78), done.stderr
    if "--exit-on-device-error" in arguments:
        assert done.returncode == 69, "FFmpeg has seen it"
    assert not found_in("stderr", done.stderr) + found_in("stdout", done.stdout)
    assert done.stderr.strip()


@pytest.mark.fault("K2")
def test_a_password_on_the_command_line_is_overwritten_there(tiny_bundle: Path, tmp_path: Path):
    for arguments in (
        ["--camera", f"rtsp://u:{SECRET}@127.0.0.1:9/s"],
        [f"--camera=rtsp://{SECRET}@127.0.0.1:9/s"],
    ):
        with Daemon(tmp_path, *arguments, "--bundle", tiny_bundle, "--labels", "colours") as daemon:
            daemon.wait_for("READY=1")
            shown = Path(f"/proc/{daemon.process.pid}/cmdline").read_bytes()
            assert not found_in("cmdline", shown)
            assert b"rtsp://***@" in shown
            assert b"--labels\0colours" in shown
            daemon.stop()


@pytest.mark.fault("K3")
def test_a_crash_leaves_no_core(tiny_bundle: Path, tmp_path: Path):
    """Whoever starts it may have asked for cores. Here the limit is lifted from outside too."""
    if Path("/proc/sys/kernel/core_pattern").read_text().startswith(("|", "/")):
        pytest.skip("cores go elsewhere on this machine")
    address = f"rtsp://u:{SECRET}@127.0.0.1:9/s"
    config = write_config(tmp_path / "config.yaml", tiny_bundle, camera={"source": address})
    with Daemon(tmp_path, "--config", config, program=_in_folder(tmp_path)) as daemon:
        daemon.wait_for("READY=1")
        subprocess.run(
            [need("prlimit", "util-linux"), "--core=unlimited", "--pid", str(daemon.process.pid)],
            check=True,
        )
        daemon.process.send_signal(signal.SIGSEGV)
        daemon.process.wait(10)
    assert [path.name for path in tmp_path.iterdir() if "core" in path.name] == []
    plain = subprocess.Popen(["sh", "-c", f"ulimit -c unlimited; cd {tmp_path}; exec sleep 60"])
    wait_until(lambda: Path(f"/proc/{plain.pid}/comm").read_text() == "sleep\n")
    plain.send_signal(signal.SIGSEGV)
    plain.wait(10)
    assert [path.name for path in tmp_path.iterdir() if "core" in path.name], (
        "this machine makes cores of others"
    )


def _in_folder(folder: Path) -> tuple[str, ...]:
    """The program, run in a folder where a core would be seen."""
    run = f'ulimit -c unlimited; cd {folder}; exec "$@"'
    return (
        "sh",
        "-c",
        run,
        "sh",
        "env",
        f"PYTHONPATH={Path(edge_runtime.__file__).parents[1]}",
        *EDGE_LABEL,
    )


def test_the_unit_takes_no_core():
    assert "LimitCORE=0" in (REPOSITORY / "systemd" / "edge-label.service").read_text().splitlines()


@pytest.mark.fault("K2")
def test_a_configuration_that_everybody_may_read_is_told(tiny_bundle: Path, tmp_path: Path):
    for mode, told in ((0o644, True), (0o640, False)):
        source = f"rtsp://u:{SECRET}@127.0.0.1:9/s"
        config = write_config(tmp_path / "config.yaml", tiny_bundle, camera={"source": source})
        config.chmod(mode)
        command = [*EDGE_LABEL, "run", "--config", config, "--exit-on-device-error"]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
        assert done.returncode == 69
        assert ("every user may read the camera's password" in done.stderr) == told
