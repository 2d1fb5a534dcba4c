"""The generated references say what the code says."""

from __future__ import annotations

import sys

import pytest

from tools import docs


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="argparse prints help in another form from Python 3.13")
def test_no_generated_document_is_stale():
    assert docs.main(["--check"]) == 0, "run: make docs"


def test_a_stale_document_is_named(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(docs, "DOCUMENTS", {"x.md": lambda: "new"})
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    assert docs.main(["--check"]) == 1
    assert "stale: x.md" in capsys.readouterr().err
    assert docs.main([]) == 0
    assert (tmp_path / "x.md").read_text() == "new"
