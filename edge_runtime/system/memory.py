"""This process's own memory: how much it holds, and how it gives back what only start-up needed.

Every figure is read from /proc, in MB of 1e6 bytes.
"""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path

MB = 1e6
_PAGE = os.sysconf("SC_PAGE_SIZE")

# From <linux/mman.h>; Python's mmap module has them only for mappings that it made itself.
_MADV_DONTNEED = 4
_MADV_DONTDUMP = 16

# How much of a library one page fault may map, in bytes: a multiple of every page size of Linux.
_PIECE = 512 * 1024


def rss_mb() -> float:
    """Resident set size now, MB. Raises OSError."""
    resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
    return resident_pages * _PAGE / MB


def pss_mb() -> float | None:
    """Proportional set size, MB: a page that n processes share counts 1/n.

    None where the kernel hides it.
    """
    return _read_mb(Path("/proc/self/smaps_rollup"), "Pss:")


def peak_rss_mb() -> float:
    """Highest resident set size of this process so far (VmHWM), MB."""
    peak = _read_mb(Path("/proc/self/status"), "VmHWM:")
    return peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB


def anonymous_rss_mb() -> float | None:
    """The part of RSS that is this process's own (RssAnon), MB; None where the kernel hides it.

    The rest maps files. The kernel can drop that part at any time, and how much of a file it maps
    at one touch depends on the folios of its page cache, so only this part can be compared.
    """
    return _read_mb(Path("/proc/self/status"), "RssAnon:")


def _read_mb(path: Path, key: str) -> float | None:
    """The value of a line such as ``Pss:  1234 kB`` in MB; None where there is no such line."""
    try:
        for line in path.read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024 / MB
    except OSError:
        pass
    return None


def release_memory() -> None:
    """Give back what start-up needed and frames do not: 166 MB of RSS become 74.

    Importing cv2 and onnxruntime and building a session runs through tens of megabytes of code and
    tables once. Hardly any of it is needed again, but the kernel keeps it mapped until memory is
    short, and it counts against the budget. Where something has read the libraries from end to end,
    the page cache holds them in large folios and a run keeps 166.2 MB; after this call it keeps
    73.5 MB. From small folios it is 111.0 MB and 72.4 MB. docs/decisions/014 has the table and the
    command that prints it.

    Three steps, none of which can lose data:

    1. ``malloc_trim`` returns freed heap to the kernel.
    2. ``MADV_DONTNEED`` unmaps libraries. What runs again is mapped again from the page cache;
       nothing is read from the disk twice.
    3. The mappings are cut into pieces. Linux 6.18 maps up to 2 MB of a large folio at one touch,
       but never beyond the end of a mapping. Without this step 38 MB come back: 111.5 MB.

    Does nothing where the kernel does not tell what is mapped.
    """
    libc = ctypes.CDLL(None)
    try:
        libc.malloc_trim(0)
    except AttributeError:  # only glibc has it
        pass

    try:
        for start, end in _clean_file_mappings():
            _advise(libc, start, end, _MADV_DONTNEED)
            _cut_into_pieces(libc, start, end)
    except (OSError, ValueError):  # no smaps, or a kernel that writes it in another form
        pass


def _cut_into_pieces(libc: ctypes.CDLL, start: int, end: int) -> None:
    """Make every ``_PIECE`` of a mapping a mapping of its own.

    The kernel splits a mapping where neighbouring pages have different flags. So every second piece
    gets a flag that changes nothing: core dumps leave out these pages of a file anyway. The first
    piece stays as it is, because a core dump wants the ELF header.
    """
    for piece in range(start + _PIECE, end, 2 * _PIECE):
        _advise(libc, piece, min(piece + _PIECE, end), _MADV_DONTDUMP)


def _advise(libc: ctypes.CDLL, start: int, end: int, advice: int) -> None:
    libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), advice)


def _clean_file_mappings(smaps: Path = Path("/proc/self/smaps")) -> list[tuple[int, int]]:
    """(start, end) of private, read-only file mappings without a single page of this process's own.

    Only these can be dropped without loss. Relocated data is read-only too, but its pages are ours,
    in memory (``Anonymous``) or swapped out (``Swap``), and exist nowhere else.
    """
    clean = []
    span = (0, 0)
    maps_a_file = False
    zeros = 0
    with smaps.open() as lines:
        for line in lines:
            key, value, *rest = line.split()
            if not key.endswith(":"):  # start-end permissions offset device inode path
                start, end = key.split("-")
                inode = rest[2]
                span = int(start, 16), int(end, 16)
                maps_a_file = value in ("r-xp", "r--p") and inode != "0"
                zeros = 0
            elif maps_a_file and key in ("Anonymous:", "Swap:") and value == "0":
                zeros += 1
                if zeros == 2:
                    clean.append(span)
    return clean
