"""Root takes only a path that nobody else can change. tests/attacks/test_install.py has attacks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.system.ownership import no_planted_link, path_that_only_root_can_change

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root is careful")


@as_root
def test_links_are_followed_and_what_is_missing_passes(tmp_path: Path):
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "link").symlink_to("target")
    checked = path_that_only_root_can_change(tmp_path / "link" / "new" / "file")
    assert checked == target / "new" / "file"


@as_root
@pytest.mark.parametrize("mode", [0o777, 0o757])
def test_a_folder_that_others_can_write_is_refused(tmp_path: Path, mode: int):
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(ConfigError, match="lets others write"):
        path_that_only_root_can_change(folder / "file")
    assert no_planted_link(folder / "file") == os.O_NOFOLLOW
    folder.chmod(0o755)
    assert no_planted_link(folder / "file") == 0


@as_root
def test_another_users_folder_is_refused(tmp_path: Path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, 65534, -1)
    with pytest.raises(ConfigError, match="belongs to user 65534"):
        path_that_only_root_can_change(folder / "file")


@as_root
def test_a_circle_of_links_is_one_line(tmp_path: Path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(ConfigError, match="name the folder itself"):
        path_that_only_root_can_change(tmp_path / "a")
