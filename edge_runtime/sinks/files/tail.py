"""The last line of a record file, which a kill or a power cut may have left unfinished."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from edge_runtime.system.files import unfinished_line

log = logging.getLogger("edge_label.sinks")

RECORD_START = b'{"schema"'  # how every record begins: what begins otherwise is not ours to delete


def repair(fd: int, path: Path) -> int:
    """Cut off an unfinished last line; returns the size of the file then.

    ext4 and FAT may leave zeros, megabytes of them, where the size of a file reached the disk
    before its data. They are cut off too.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return 0  # a pipe or a device has no tail to read

    size = status.st_size
    whole, end = unfinished_line(fd, size)
    if whole == size:
        return size

    torn = os.pread(fd, min(len(RECORD_START), end - whole), whole)
    if RECORD_START.startswith(torn):
        os.ftruncate(fd, whole)
        log.warning("%s: its last %d bytes are no whole record and are cut off", path, size - whole)
        return whole
    # Somebody else's line: keep it, as a line of its own.
    return size + os.write(fd, b"\n")
