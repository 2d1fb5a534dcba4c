"""What the Debian package must do on a real system. Runs as root inside the machine.

The machine holds an older installation, by pip and `make install`. Two packages lie in /mnt.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

try:
    from .guest import must, run_checks, sh
except ImportError:  # inside the machine, where this is a program and guest.py lies beside it
    from guest import must, run_checks, sh

CONFIG = Path("/etc/edge-label/edge-label.yaml")
STATE = Path("/var/lib/edge-label")
OLDER = "/mnt/older.deb"
NEWER = "/mnt/newer.deb"


def configuration(camera: int) -> str:
    return f"camera: {{source: /dev/video{camera}, max_fps: 2}}\noutput: {{file: labels.jsonl}}\n"


def show(unit: str, name: str) -> str:
    return must(f"systemctl show {unit} -p {name} --value")


def frames(state: Path) -> int:
    path = state / "labels.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return sum('"labels":[{' in line for line in lines if line.endswith("\n"))


def more_frames(state: Path, count: int = 3, seconds: float = 120) -> float:
    wanted = frames(state) + count
    start = time.monotonic()
    while frames(state) < wanted:
        took = time.monotonic() - start
        log = sh("journalctl -u 'edge-label*' -o cat --no-pager -n 12")
        assert took < seconds, f"{state}: no {count} more frames in {seconds} s; {log}"
        time.sleep(0.5)
    return time.monotonic() - start


def installed() -> str:
    return must("dpkg-query -W -f '${Version} ${db:Status-Status}' edge-label")


def apt(words: str) -> str:
    settings = "-o APT::Sandbox::User=root -o Dpkg::Options::=--force-confold"
    return must(f"DEBIAN_FRONTEND=noninteractive apt-get -y -q {settings} {words}")


def it_does_not_mix_with_an_installation_by_pip() -> str:
    pip = Path("/opt/edge-label/bin/pip")
    pip.parent.mkdir(parents=True)
    pip.touch()
    done = subprocess.run(["dpkg", "-i", OLDER], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert not Path("/opt/edge-label/pyvenv.cfg").exists()
    must("rm -r /opt/edge-label")
    return next(line for line in done.stderr.splitlines() if "by pip" in line)


def the_package_installs_without_a_network_and_names_what_shadows_it() -> str:
    start = time.monotonic()
    said = apt(f"install {OLDER}")
    for older in ("/etc/systemd/system/edge-label.service", "/usr/local/bin/edge-label"):
        assert f"{older} of an earlier installation" in said, said
    must("rm -r /etc/systemd/system/edge-label*.service /usr/local/bin/edge-label")
    must("rm -r /usr/local/lib/python3*/dist-packages/*; systemctl daemon-reload")
    return f"{installed()} after {time.monotonic() - start:.0f} s"


def the_service_labels() -> str:
    must("modprobe vivid n_devs=3 node_types=1,1,1 num_inputs=1,1,1 input_types=0,0,0")
    must("udevadm settle")
    CONFIG.write_text(configuration(0))
    must("systemctl enable --now edge-label")
    took = more_frames(STATE)
    assert show("edge-label", "ExecStart").startswith("{ path=/usr/bin/edge-label")
    return f"frames {took:.0f} s after the start, {must('edge-label --version')}"


def two_cameras_run_beside_each_other_and_share_their_libraries() -> str:
    for camera, name in enumerate(("front", "rear"), 1):
        CONFIG.with_name(f"{name}.yaml").write_text(configuration(camera))
    must("systemctl enable --now edge-label@front edge-label@rear")
    for name in ("front", "rear"):
        more_frames(STATE.with_name(f"edge-label-{name}"))
    told = []
    users = set()
    for unit in ("edge-label", "edge-label@front", "edge-label@rear"):
        process = Path(f"/proc/{show(unit, 'MainPID')}")
        memory = process.joinpath("smaps_rollup").read_text()
        rss, pss = (int(re.search(rf"^{key}:\s+(\d+)", memory, re.M)[1]) for key in ("Rss", "Pss"))
        users.add(process.stat().st_uid)
        told.append(f"{unit} RSS {rss * 1024 / 1e6:.1f} MB, its share {pss * 1024 / 1e6:.1f} MB")
    assert len(users) == 3, users
    return "; ".join(told)


def two_instances_cannot_write_one_file() -> str:
    taken = STATE.with_name("edge-label-front") / "labels.jsonl"
    done = subprocess.run(
        ["edge-label", "--camera", "/dev/video2", "--output", str(taken), "--seconds", "1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0, done.stdout[-300:]
    return done.stderr.strip().splitlines()[-1]


def an_upgrade_keeps_what_a_person_edited_and_restarts_what_runs() -> str:
    must("systemctl stop edge-label edge-label@front")
    before = show("edge-label@rear", "MainPID")
    mine = CONFIG.with_name("my.yaml")
    mine.write_text("labels: [dog]\n")
    mine.with_suffix(".embeddings").write_bytes(b"taught")
    start = time.monotonic()
    said = apt(f"install {NEWER}")
    took = time.monotonic() - start

    assert CONFIG.read_text() == configuration(0), said
    assert mine.read_text() == "labels: [dog]\n"
    assert mine.with_suffix(".embeddings").read_bytes() == b"taught"
    more_frames(STATE.with_name("edge-label-rear"))
    assert show("edge-label@rear", "MainPID") not in (before, "0")
    assert show("edge-label", "MainPID") == "0"
    return f"{installed()} after {took:.0f} s"


def remove_stops_it_and_keeps_configuration_and_recordings() -> str:
    apt("remove edge-label")
    assert not Path("/opt/edge-label").exists(), must("find /opt/edge-label | head")
    for unit in ("edge-label", "edge-label@rear"):
        must(f"! systemctl is-active --quiet {unit}")
    assert CONFIG.read_text() == configuration(0)
    return f"{frames(STATE)} frames kept"


def purge_takes_the_configuration_and_says_what_it_keeps() -> str:
    said = apt("purge edge-label")
    assert not CONFIG.exists()
    assert "kept; delete it yourself if you want to: /var/lib/edge-label" in said, said
    assert frames(STATE)
    return said.splitlines()[-1]


CHECKS: list[Callable[[], str]] = [
    it_does_not_mix_with_an_installation_by_pip,
    the_package_installs_without_a_network_and_names_what_shadows_it,
    the_service_labels,
    two_cameras_run_beside_each_other_and_share_their_libraries,
    two_instances_cannot_write_one_file,
    an_upgrade_keeps_what_a_person_edited_and_restarts_what_runs,
    remove_stops_it_and_keeps_configuration_and_recordings,
    purge_takes_the_configuration_and_says_what_it_keeps,
]


if __name__ == "__main__":
    sys.exit(run_checks(CHECKS))
