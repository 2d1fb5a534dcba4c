"""Memory is read from the kernel, and what only start-up needed is given back without a loss."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from edge_runtime.system import memory


def printed_by(code: str) -> list[str]:
    """What a fresh process prints: this one has freed memory, which would hide the answer."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.check_output(command, text=True).split()


def test_rss_follows_what_is_allocated():
    code = """
        import numpy as np
        from edge_runtime.system.memory import peak_rss_mb, rss_mb

        before = rss_mb()
        block = np.ones(50_000_000, np.uint8)
        print(rss_mb() - before, peak_rss_mb() - before)
    """
    now, peak = map(float, printed_by(code))
    assert 45 < now < 60
    assert peak >= 45


def test_released_memory_is_gone_and_what_is_needed_again_still_works():
    """The process has used much of two large libraries just once."""
    code = """
        import cv2
        import numpy as np
        from edge_runtime.system.memory import anonymous_rss_mb, release_memory, rss_mb

        def use_both():
            picture = np.arange(30000).astype(np.uint8).reshape(100, 100, 3)
            jpeg = cv2.imencode(".jpg", picture)[1]
            return jpeg.sum(), np.linalg.inv(np.eye(3) * 4)[0, 0]

        first = use_both()
        own_before = anonymous_rss_mb()
        files_before = rss_mb() - own_before
        release_memory()
        own_after = anonymous_rss_mb()
        files_after = rss_mb() - own_after
        print(files_before, files_after, own_before - own_after, use_both() == first)
    """
    files_before, files_after, own_released, works = printed_by(code)
    assert float(files_after) < float(files_before) / 2
    assert float(own_released) > -0.5
    assert works == "True"


def test_no_page_fault_can_map_more_of_a_library_than_a_piece():
    """Linux 6.18 maps the whole of a large folio at one touch, up to the end of the mapping."""
    code = """
        import cv2
        from edge_runtime.system import memory

        def longest_mapping():
            return max(end - start for start, end in memory._clean_file_mappings())

        before = longest_mapping()
        memory.release_memory()
        memory.release_memory()
        print(before, longest_mapping(), memory._PIECE)
    """
    before, after, piece = map(int, printed_by(code))
    assert before > 4 * piece
    assert after <= piece


def test_pages_of_our_own_are_never_released_even_when_they_are_swapped_out(tmp_path: Path):
    def mapping(start: str, permissions: str, inode: int, anonymous: int, swap: int) -> str:
        return (
            f"{start}000-{start}fff {permissions} 00000000 fe:00 {inode}    /usr/lib/a b.so\n"
            "Size:  4 kB\n"
            f"Anonymous:    {anonymous} kB\n"
            f"Swap:    {swap} kB\n"
            "SwapPss:    0 kB\n"
            "VmFlags: rd ex mr\n"
        )

    (tmp_path / "smaps").write_text(
        mapping("a1", "r-xp", 7, 0, 0)
        + mapping("a2", "r--p", 7, 4, 0)
        + mapping("a3", "r--p", 7, 0, 4)
        + mapping("a4", "rw-p", 7, 0, 0)
        + mapping("a5", "r-xp", 0, 0, 0)
        + mapping("a6", "r--p", 7, 0, 0)
    )
    assert memory._clean_file_mappings(tmp_path / "smaps") == [
        (0xA1000, 0xA1FFF),
        (0xA6000, 0xA6FFF),
    ]


def test_own_memory_is_a_part_of_rss():
    assert 0 < (memory.anonymous_rss_mb() or 0) < memory.rss_mb()


def test_pss_is_at_most_rss():
    assert 0 < (memory.pss_mb() or 0) <= memory.rss_mb() * 1.05
