"""What the service must do on a real kernel. Runs as root inside the machine.

Prints one JSON line a check. Standard library only. Each check is a function whose name is the
promise; it returns what it saw, or raises AssertionError when the promise is broken. They run in
order; each starts where the one before ended.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

try:
    from .guest import run_checks, sh
except ImportError:  # inside the machine, where this is a program and guest.py lies beside it
    from guest import run_checks, sh

UNIT = "edge-label"
CONFIG = Path("/etc/edge-label/edge-label.yaml")
RECORDS = Path("/var/lib/edge-label/labels.jsonl")
CAMERA = (
    "/dev/v4l/by-path/platform-vivid.0-video-index0"  # found again under whatever number it returns
)
WORDS = Path("/etc/edge-label/my.yaml")
VIVID = Path("/sys/bus/platform/drivers/vivid")
BUDGET_RSS_MB = 180
LADDER_MIB = (128, 96, 80, 64, 48, 30)


def show(name: str) -> str:
    return sh(f"systemctl show {UNIT} -p {name} --value")


def wait(seconds: float, condition: Callable[[], bool], what: str) -> float:
    """Poll until `condition`; the seconds it took. AssertionError after `seconds`."""
    start = time.monotonic()
    while not condition():
        took = time.monotonic() - start
        assert took < seconds, (
            f"{what}: not within {seconds:.0f} s; last records {tail(2)}; journal {journal(6)}"
        )
        time.sleep(0.5)
    return time.monotonic() - start


def journal(lines: int = 400) -> str:
    return sh(f"journalctl -u {UNIT} -o cat --no-pager -n {lines}")


def records() -> list[dict]:
    """Every complete record so far."""
    if not RECORDS.exists():
        return []
    return [
        json.loads(line)
        for line in RECORDS.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]


def tail(count: int) -> list[dict]:
    return [
        {key: record.get(key) for key in ("seq", "state", "camera_state")}
        for record in records()[-count:]
    ]


def frames() -> int:
    """Records that came from a frame."""
    return sum(record["state"] != "stale" for record in records())


def more_frames(count: int = 3, seconds: float = 60) -> float:
    wanted = frames() + count
    return wait(seconds, lambda: frames() >= wanted, f"{count} more frames")


def camera_state() -> str:
    last = records()[-1:]
    return str(last[0].get("camera_state") or last[0]["state"]) if last else "none"


def pid() -> int:
    return int(show("MainPID"))


def rss_mb() -> dict[str, float]:
    text = Path(f"/proc/{pid()}/status").read_text()
    return {
        name: int(re.search(rf"{name}:\s+(\d+)", text)[1]) * 1024 / 1e6
        for name in ("VmHWM", "VmRSS", "RssAnon", "RssFile")
    }


def drop_in(*lines: str) -> None:
    folder = Path(f"/run/systemd/system/{UNIT}.service.d")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test.conf").write_text("[Service]\n" + "\n".join(lines) + "\n")
    sh("systemctl daemon-reload")


def plug() -> None:
    (VIVID / "bind").write_text("vivid.0")
    sh("udevadm settle")


def unplug() -> None:
    (VIVID / "unbind").write_text("vivid.0")
    sh("udevadm settle")


def ready_before_the_camera_is_there() -> str:
    """READY means the model is loaded. A missing camera must not make the start time out."""
    assert not list(Path("/dev").glob("video*"))
    text = CONFIG.read_text()
    text = text.replace("source: /dev/video0", f"source: {CAMERA}").replace(
        "  file: null", f"  file: {RECORDS}", 1
    )
    CONFIG.write_text(text)
    start = time.monotonic()
    sh(f"systemctl start {UNIT}")  # Type=notify: returns when READY came
    took = time.monotonic() - start
    assert show("ActiveState") == "active", journal(20)
    wait(30, lambda: bool(records()), "a record that explains the missing camera")
    assert records()[-1]["state"] == "stale"
    return f"READY after {took:.0f} s, camera state {camera_state()}"


def frames_flow_when_the_camera_comes() -> str:
    sh("modprobe vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0x0; udevadm settle")
    assert Path(CAMERA).exists(), sh("ls -l /dev/v4l/by-path /dev/video*")
    took = more_frames(5, 90)
    record = records()[-1]
    assert record["labels"], record
    best = record["labels"][0]["name"]
    return f"first frames after {took:.0f} s, state {record['state']}, best {best}"


def negotiation_says_what_the_driver_gives() -> str:
    """vivid has no MJPG: the log must say YUYV, and the driver must agree."""
    lines = [line for line in journal().splitlines() if " got " in line]
    assert lines, journal(20)
    driver = sh(f"v4l2-ctl -d {CAMERA} --get-fmt-video")
    width, height = re.search(r"Width/Height\s*:\s*(\d+)/(\d+)", driver).groups()
    fourcc = re.search(r"Pixel Format\s*:\s*'(\w+)'", driver)[1]
    assert f"got {fourcc} {width}x{height}" in lines[-1], (lines[-1], driver)
    return lines[-1]


def a_user_without_rights_runs_it() -> str:
    status = Path(f"/proc/{pid()}/status").read_text()
    uid = int(re.search(r"Uid:\s+(\d+)", status)[1])
    capabilities = re.search(r"CapEff:\s+(\w+)", status)[1]
    assert uid >= 61184, uid
    assert int(capabilities, 16) == 0, capabilities
    return f"uid {uid}, capabilities {capabilities}"


def the_watchdog_is_fed() -> str:
    first = int(show("WatchdogTimestampMonotonic"))
    assert first > 0
    took = wait(30, lambda: int(show("WatchdogTimestampMonotonic")) > first, "WATCHDOG=1")
    return f"fed again within {took:.1f} s"


def memory_is_within_the_budget() -> str:
    more_frames(3)
    memory = rss_mb()
    assert memory["VmHWM"] <= BUDGET_RSS_MB, memory
    group = Path(f"/sys/fs/cgroup/system.slice/{UNIT}.service")
    peak = int((group / "memory.peak").read_text()) / 1e6
    return (
        ", ".join(f"{name} {value:.1f} MB" for name, value in memory.items())
        + f", cgroup peak {peak:.1f} MB"
    )


def nothing_calls_home() -> str:
    """No telemetry file anywhere, no socket that could leave the machine."""
    places = r"\( -path '*Microsoft*' -o -name '.ses' -o -path '*DeveloperTools*' \)"
    found = sh(f"find / -xdev {places} -print")
    assert not found, found
    process = Path(f"/proc/{pid()}")
    inodes = set()
    for link in (process / "fd").iterdir():
        target = str(link.readlink())
        if target.startswith("socket:"):
            inodes.add(target[8:-1])
    internet = "".join(
        (process / "net" / table).read_text() for table in ("tcp", "tcp6", "udp", "udp6", "raw")
    )
    used = {
        line.split()[9] for line in internet.splitlines() if ":" in line and line.split()[0] != "sl"
    }
    assert not inodes & used, inodes & used
    return f"{len(inodes)} sockets, all local"


def unplugged_and_back_in_the_same_process() -> str:
    before = pid()
    unplug()
    wait(40, lambda: camera_state() in ("no_device", "reconnecting"), "camera state no_device")
    state = camera_state()
    assert show("ActiveState") == "active"
    plug()
    took = more_frames(3, 90)
    assert pid() == before
    return f"{state}, then frames again after {took:.0f} s in the same process"


def back_under_another_number() -> str:
    """Somebody else holds the old node open, so the camera returns as /dev/video1."""
    before = pid()
    node = os.path.realpath(CAMERA)
    with Path(node).open("rb"):
        unplug()
        wait(40, lambda: camera_state() in ("no_device", "reconnecting"), "camera state no_device")
        plug()
        returned = os.path.realpath(CAMERA)
        assert returned != node, f"still {node}"
        took = more_frames(3, 90)
    assert pid() == before
    return f"{node} came back as {returned}, frames after {took:.0f} s"


def a_stalled_camera_is_said_and_survived() -> str:
    """The driver drops every buffer: the descriptor stays open and no frame comes."""
    before = pid()
    sh(f"v4l2-ctl -d {CAMERA} -c percentage_of_dropped_buffers=100")
    took = wait(
        60,
        lambda: camera_state() in ("frozen", "no_signal", "reconnecting"),
        "a state that says so",
    )
    state = camera_state()
    time.sleep(12)  # longer than the ten seconds a read blocks
    assert show("ActiveState") == "active"
    sh(f"v4l2-ctl -d {CAMERA} -c percentage_of_dropped_buffers=0")
    back = more_frames(3, 120)
    assert pid() == before
    return f"{state} after {took:.0f} s, frames again {back:.0f} s after the stall"


def a_reload_keeps_the_process() -> str:
    before = pid()
    CONFIG.write_text(CONFIG.read_text().replace("labels: everyday", "labels: road"))
    sh(f"systemctl reload {UNIT}")
    wait(60, lambda: "reloaded" in journal(5), "the word reloaded")
    more_frames(2)
    assert pid() == before
    return journal(1)


def new_words_are_made_in_the_sandbox() -> str:
    """Words that the bank lacks, in a folder that the service cannot write to."""
    before, restarts = pid(), show("NRestarts")
    reloads = journal().count("reloaded")
    WORDS.write_text("labels: [a rusty turnstile, a cat]\n")
    CONFIG.write_text(CONFIG.read_text().replace("labels: road", f"labels: {WORDS}"))
    first = frames()
    sh(f"systemctl reload {UNIT}")
    took = wait(300, lambda: journal().count("reloaded") > reloads, "reloaded")
    meanwhile = frames() - first
    wait(60, lambda: "a rusty turnstile" in str(records()[-1]["labels"]), "the new label")

    assert (pid(), show("NRestarts")) == (before, restarts)
    assert meanwhile > 0, "no frame was labelled while the rows were made"
    assert "tokenizers" not in Path(f"/proc/{before}/maps").read_text()
    kept = [path.name for path in Path("/var/lib/edge-label/embeddings").iterdir()]
    assert len(kept) == 1, kept
    assert [path.name for path in WORDS.parent.glob("*.embeddings")] == []
    peak = int(Path(f"/sys/fs/cgroup/system.slice/{UNIT}.service/memory.peak").read_text()) / 1e6
    line = next(line for line in journal(20).splitlines() if "wrote rows" in line)
    return f"{line}; {took:.0f} s, {meanwhile} frames meanwhile, cgroup peak {peak:.1f} MB"


def a_stopped_process_is_restarted_by_the_watchdog() -> str:
    before, restarts = pid(), int(show("NRestarts"))
    os.kill(before, signal.SIGSTOP)
    took = wait(120, lambda: int(show("NRestarts")) > restarts, "a restart")
    assert "atchdog" in sh(f"journalctl -u {UNIT} --no-pager -n 60")
    wait(90, lambda: show("ActiveState") == "active", "active again")
    more_frames(2, 90)
    assert pid() != before
    return f"restarted after {took:.0f} s"


def stops_cleanly() -> str:
    start = time.monotonic()
    sh(f"systemctl stop {UNIT}")
    took = time.monotonic() - start
    assert show("Result") == "success", (show("Result"), journal(10))
    assert took < 10, took
    text = RECORDS.read_text()
    assert text.endswith("\n")
    for line in text.splitlines():
        json.loads(line)
    return f"stopped in {took:.1f} s, {len(text.splitlines())} whole records"


def the_memory_limit_is_enforced() -> str:
    """A ladder of memory limits: the service labels, or the kernel's oom-kill ends it."""
    told = []
    for limit in LADDER_MIB:
        drop_in(f"MemoryMax={limit}M", "MemorySwapMax=0", "Restart=no")
        wanted = frames() + 3
        sh(f"systemctl reset-failed {UNIT}; systemctl start {UNIT}")
        wait(120, partial(_frames_or_failed, wanted), f"an end with {limit} MiB")
        held = show("ActiveState") == "active"
        if not held:
            # OOMPolicy=continue: systemd names the signal, and its journal says who sent it.
            assert show("Result") in ("oom-kill", "signal"), (show("Result"), journal(10))
            assert "OOM killer" in journal(20), journal(20)
        told.append(f"{limit} MiB {'holds' if held else 'ends in oom-kill'}")
        sh(f"systemctl stop {UNIT}")
        if not held:
            break
    drop_in("MemoryMax=256M")
    assert "holds" in told[0], told
    assert "oom-kill" in told[-1], told
    return ", ".join(told) + "; the shipped 256M held all along"


def _frames_or_failed(wanted: int) -> bool:
    return frames() >= wanted or show("ActiveState") in ("failed", "inactive")


def a_broken_configuration_is_not_tried_again() -> str:
    good = CONFIG.read_text()
    CONFIG.write_text(good.replace("width:", "widht:", 1))
    sh(f"systemctl reset-failed {UNIT}; systemctl start {UNIT}")
    wait(60, lambda: show("ActiveState") == "failed", "failed")
    time.sleep(5)
    assert show("ExecMainStatus") == "78", show("ExecMainStatus")
    assert show("NRestarts") == "0", show("NRestarts")
    CONFIG.write_text(good)
    return next(line for line in journal(8).splitlines() if "widht" in line)


CHECKS = [
    ready_before_the_camera_is_there,
    frames_flow_when_the_camera_comes,
    negotiation_says_what_the_driver_gives,
    a_user_without_rights_runs_it,
    the_watchdog_is_fed,
    memory_is_within_the_budget,
    nothing_calls_home,
    unplugged_and_back_in_the_same_process,
    back_under_another_number,
    a_stalled_camera_is_said_and_survived,
    a_reload_keeps_the_process,
    new_words_are_made_in_the_sandbox,
    a_stopped_process_is_restarted_by_the_watchdog,
    stops_cleanly,
    the_memory_limit_is_enforced,
    a_broken_configuration_is_not_tried_again,
]


if __name__ == "__main__":
    sys.exit(run_checks(CHECKS))
