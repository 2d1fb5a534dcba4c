"""A whole arm64 Debian in qemu-system-aarch64: kernel, systemd, a V4L2 camera, and the project.

    python -m tools.arm64.machine image            # about a minute, in build/machine
    python -m tools.arm64.machine run PROGRAM.py   # boot, run a program as root, print its output

The image is made without chroot, loop mounts or Docker. Packages are unpacked, the work of their
maintainer scripts is done below, and mke2fs fills the file system from the tree. The camera is the
kernel's own virtual one (vivid). Times in this machine mean nothing; states, recovery and memory
are those of a real system.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import UsageError
from tools.arm64 import debian, userland
from tools.lib.command import run_verb, verb_parser
from tools.upkeep import lock

DEFAULT_FOLDER = userland.REPOSITORY / "build/machine"
PACKAGES = [
    "init", "systemd", "systemd-sysv", "udev", "kmod", "dbus", "base-files", "base-passwd",
    "libc-bin", "bash", "dash", "coreutils", "util-linux", "mount", "login", "passwd", "grep",
    "sed", "findutils", "procps", "libpam-systemd", "libnss-systemd", "linux-image-arm64",
    "busybox-static", "python3", "python3-minimal", "libstdc++6", "libgcc-s1", "libgomp1",
    "v4l-utils", "dpkg", "apt", "tar", "diffutils", "debconf", "perl-base",
]  # fmt: skip
LEAVE_OUT = (*userland.LEAVE_OUT, "./usr/lib/linux-image*")
# Services that a camera without network or keyboard does not need.
MASKED = [
    "systemd-timesyncd.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "getty@tty1.service",
    "serial-getty@ttyAMA0.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "fstrim.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "systemd-pstore.service",
    "systemd-binfmt.service",
]
# What the kernel needs before it can read its own disk, where all other modules are.
DISK_MODULES = ["virtio_pci", "virtio_blk", "crc32c_generic", "ext4"]
IMAGE_SIZE = "1400M"

INIT = """#!/bin/sh
B=/bin/busybox
$B mount -t proc proc /proc; $B mount -t sysfs sys /sys; $B mount -t devtmpfs dev /dev
for m in $($B cat /order); do $B insmod /modules/$m || echo "initrd: $m failed"; done
i=0; while [ ! -b /dev/vda ] && [ $i -lt 200 ]; do $B usleep 100000; i=$((i+1)); done
$B mount -t ext4 /dev/vda /newroot || exec /bin/sh
$B umount /proc; $B umount /sys; $B mount --move /dev /newroot/dev
exec $B switch_root /newroot /sbin/init
"""
# Runs the program that the host put into the share, and powers the machine off even if it failed.
GUEST_UNIT = """[Unit]
Description=run the program of the host
After=multi-user.target
[Service]
ExecStartPre=/sbin/modprobe 9pnet_virtio
ExecStartPre=/bin/mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 share /mnt
ExecStart=/bin/sh -c '/usr/bin/python3 -u /mnt/program.py > /mnt/output.txt 2>&1; \
echo $? > /mnt/status'
ExecStopPost=/bin/sh -c 'sync; systemctl --no-block --force --force poweroff'
StandardOutput=journal+console
TimeoutStopSec=60
"""


@dataclass(frozen=True)
class Machine:
    """A built image: `folder` holds root.ext4, vmlinuz and initrd.gz."""

    folder: Path

    # Long because most of it is the one command line of QEMU.
    def run(
        self, program: Path, seconds: float, memory: str = "1G", files: Sequence[Path] = ()
    ) -> tuple[int, str, float]:
        """Boot a throw-away copy and run `program` in it, with `files` beside it in /mnt.

        Returns its exit status, its output, and the seconds that all took. Raises RuntimeError with
        the end of the console when the machine does not finish in time.
        """
        qemu = debian.require("qemu-system-aarch64", "qemu-system-arm")
        share = self.folder / "share"
        console = self.folder / "console.log"
        shutil.rmtree(share, ignore_errors=True)
        share.mkdir()
        shutil.copy(program, share / "program.py")
        for file in files:
            shutil.copy(file, share)
        kernel = "root=/dev/vda rw console=ttyAMA0 net.ifnames=0 systemd.show_status=0 panic=5"
        # snapshot=on sends all writes to a temporary file, so the image stays as it was built.
        disk = "if=none,id=disk,format=raw,cache=unsafe,snapshot=on"
        command = [
            qemu, "-M", "virt,gic-version=3", "-cpu", "cortex-a72", "-smp", "2", "-m", memory,
            "-accel", "tcg,thread=multi,tb-size=512",
            "-kernel", self.folder / "vmlinuz", "-initrd", self.folder / "initrd.gz",
            "-append", kernel,
            "-drive", f"file={self.folder / 'root.ext4'},{disk}",
            "-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci", "-nic", "none",
            "-fsdev", f"local,id=share,path={share},security_model=none",
            "-device", "virtio-9p-pci,fsdev=share,mount_tag=share",
            "-display", "none", "-monitor", "none", "-serial", f"file:{console}", "-no-reboot",
        ]  # fmt: skip
        start = time.monotonic()
        try:
            subprocess.run(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=seconds,
                check=True,
            )
        except subprocess.TimeoutExpired:
            # The program may have finished and only the shutdown hangs; the status file tells.
            pass
        except subprocess.CalledProcessError as error:
            raise RuntimeError(
                f"qemu-system-aarch64 failed: {error.stderr.decode()[-500:]}"
            ) from error

        output = (share / "output.txt").read_text() if (share / "output.txt").exists() else ""
        status = share / "status"
        if not status.exists():
            tail = console.read_text(errors="replace")[-1500:] if console.exists() else ""
            raise RuntimeError(
                f"the machine did not finish in {seconds:.0f} s\n{output[-3000:]}\n"
                f"--- console\n{tail}"
            )
        return int(status.read_text()), output, time.monotonic() - start


def _configure(root: Path) -> None:
    """Do the work of the maintainer scripts and of the installer."""
    master = root / "usr/share/base-passwd"
    users = (master / "passwd.master").read_text()
    groups = (master / "group.master").read_text()
    names = [line.split(":")[0] for line in users.splitlines()]
    debian.write_file(root / "etc/passwd", users)
    debian.write_file(root / "etc/group", groups)
    shadow = "".join(f"{name}:*:19000:0:99999:7:::\n" for name in names)
    debian.write_file(root / "etc/shadow", shadow, 0o640)

    # "systemd" resolves the users that a unit with DynamicUser= makes.
    nss = (root / "usr/share/libc-bin/nsswitch.conf").read_text()
    debian.write_file(root / "etc/nsswitch.conf", nss.replace("files\n", "files systemd\n", 2))
    debian.write_file(root / "etc/hostname", "edgecam\n")
    debian.write_file(root / "etc/hosts", "127.0.0.1 localhost edgecam\n")
    debian.write_file(root / "etc/fstab", "")
    debian.write_file(root / "etc/machine-id", uuid.uuid4().hex + "\n")

    for folder in ("proc", "sys", "dev", "run", "tmp", "root", "mnt", "var/tmp", "var/log"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "var/tmp").chmod(0o1777)

    python = sorted((root / "usr/bin").glob("python3.[0-9]*"))[0].name
    for link, target in {"usr/bin/sh": "dash", "usr/bin/python3": python}.items():
        (root / link).unlink(missing_ok=True)
        (root / link).symlink_to(target)

    units = root / "etc/systemd/system"
    units.mkdir(parents=True, exist_ok=True)
    for unit in MASKED:
        (units / unit).symlink_to("/dev/null")
    (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
    debian.write_file(root / "etc/systemd/system/host-program.service", GUEST_UNIT)
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "host-program.service").symlink_to("../host-program.service")


def _make_initrd(root: Path, folder: Path, kernel: str) -> None:
    """A static busybox and the modules that reach the disk, in the order they must be inserted."""
    tree = folder / "initrd"
    shutil.rmtree(tree, ignore_errors=True)
    for name in ("bin", "proc", "sys", "dev", "newroot", "modules"):
        (tree / name).mkdir(parents=True)
    shutil.copy(root / "usr/bin/busybox", tree / "bin/busybox")
    (tree / "bin/sh").symlink_to("busybox")

    order: list[str] = []
    modprobe = [debian.require("modprobe", "kmod"), "-d", root, "-S", kernel, "--show-depends"]
    for module in DISK_MODULES:
        dependencies = debian.run(*modprobe, module, capture=True)
        for line in dependencies.splitlines():
            path = Path(line.split()[1])
            if line.startswith("insmod") and path.name not in order:
                shutil.copy(path, tree / "modules")
                order.append(path.name)
    debian.write_file(tree / "order", "\n".join(order) + "\n")
    debian.write_file(tree / "init", INIT, 0o755)

    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    packed = subprocess.run(
        [debian.require("cpio", "cpio"), "--create", "--format=newc", "--quiet"],
        input=names.encode(), cwd=tree, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    (folder / "initrd.gz").write_bytes(gzip.compress(packed.stdout, 1))


def _fingerprint() -> str:
    """Changes when the Debian tree must be built again."""
    parts = (Path(__file__), Path(debian.__file__), Path(userland.__file__), lock.LOCK)
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()


def _base(folder: Path) -> Path:
    """The Debian tree with the dependencies' wheels: all that does not change with the project."""
    root = folder / "root"
    stamp = folder / "built"
    if stamp.exists() and stamp.read_text() == _fingerprint():
        return root

    # Without the stamp, a build that is interrupted starts again.
    stamp.unlink(missing_ok=True)
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    debs = debian.download(folder / "apt", PACKAGES)
    debian.unpack(debs, root, LEAVE_OUT)
    debian.write_database(debs, root)
    _configure(root)

    # qemu loads the kernel from outside, so /boot is not needed in the image.
    kernel = next((root / "usr/lib/modules").iterdir()).name
    shutil.copy(root / f"boot/vmlinuz-{kernel}", folder / "vmlinuz")
    shutil.rmtree(root / "boot")
    debian.run(debian.require("depmod", "kmod"), "-b", root, kernel)
    _make_initrd(root, folder, kernel)

    python_version = (root / "usr/bin/python3").readlink().name.removeprefix("python")
    packages = root / f"usr/local/lib/python{python_version}/dist-packages"
    wheels = userland.download_wheels(folder / "wheels", python_version)
    userland.install(wheels, packages, python_version)
    userland.compile_modules(root / f"usr/lib/python{python_version}", python_version)
    stamp.write_text(_fingerprint())
    return root


def _install_project(root: Path, bundle: Path) -> None:
    """As docs/install.md says: the wheel and its console script, the bundle, and what `make
    install` lays down."""
    packages = next((root / "usr/local/lib").glob("python3*/dist-packages"))
    for old in [packages / "edge_runtime", *packages.glob("edge_label-*.dist-info")]:
        shutil.rmtree(old, ignore_errors=True)
    python_version = packages.parent.name.removeprefix("python")
    userland.install([userland.build_wheel(root.parent / "wheel")], packages, python_version)
    script = (
        "#!/usr/bin/python3\nimport sys\n\nfrom edge_runtime.cli import main\n\nsys.exit(main())\n"
    )
    debian.write_file(root / "usr/local/bin/edge-label", script, 0o755)
    models = root / "usr/share/edge-label/models"
    shutil.rmtree(models, ignore_errors=True)
    shutil.copytree(bundle, models / "edge-clip")
    text_encoder = models / "text-encoder"
    shutil.copytree(userland.REPOSITORY / "models/text-encoder", text_encoder)
    shutil.rmtree(root / "etc/edge-label", ignore_errors=True)
    make = debian.require("make", "make")
    debian.run(make, "-C", userland.REPOSITORY, "install", f"DESTDIR={root}")


def build(bundle: Path, folder: Path = DEFAULT_FOLDER) -> Machine:
    """Make the image with `bundle` and this working tree in it.

    Raises MissingPieceError without root or a program that it needs.
    """
    if os.geteuid() != 0:
        raise debian.MissingPieceError("building the machine needs root (apt and file owners)")
    debian.require("qemu-system-aarch64", "qemu-system-arm")
    mke2fs = debian.require("mke2fs", "e2fsprogs")
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    root = _base(folder)
    _install_project(root, bundle)
    image = folder / "root.ext4"
    image.unlink(missing_ok=True)
    # No checksums and no journal: the image is only ever used as a throw-away copy.
    options = ["-q", "-F", "-t", "ext4", "-O", "^metadata_csum,^has_journal", "-m", "0"]
    debian.run(mke2fs, *options, "-d", root, image, IMAGE_SIZE)
    return Machine(folder)


def main(argv: list[str] | None = None) -> int:
    """Make or run the machine; returns the exit code."""
    parser = verb_parser("tools.arm64.machine", __doc__, whole=True)
    shipped = userland.REPOSITORY / "models/edge-clip"
    parser.add_argument("--bundle", type=Path, default=shipped, help="the bundle to install")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("image", help="make the image")
    runner = verbs.add_parser("run", help="make the image, boot it, run a Python program as root")
    runner.add_argument("program", type=Path, help="a Python file")
    runner.add_argument(
        "--seconds", type=float, default=600, help="give up after this time (default 600)"
    )
    return run_verb(parser, _machine, argv, failures={RuntimeError: 69})


def _machine(args: argparse.Namespace) -> int:
    if args.verb == "run" and not args.program.is_file():
        raise UsageError(f"{args.program}: no such file", "give a Python program to run there")
    start = time.monotonic()
    machine = build(args.bundle)
    seconds = time.monotonic() - start
    print(f"image ready in {machine.folder} after {seconds:.0f} s", file=sys.stderr)
    if args.verb == "image":
        return 0

    status, output, took = machine.run(args.program, args.seconds)
    print(output, end="")
    print(json.dumps({"status": status, "seconds": round(took)}), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
