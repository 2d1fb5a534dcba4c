"""The generated references say what the code says."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from tests.paths import REPOSITORY
from tools.upkeep import docs

PAGES = [
    *REPOSITORY.glob("*.md"),
    *(REPOSITORY / "docs").rglob("*.md"),
    *(REPOSITORY / "models").rglob("*.md"),
]


@pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="argparse prints help in another form from Python 3.13"
)
def test_no_generated_document_is_stale():
    assert docs.main(["--check"]) == 0, "run: make docs"


def test_no_help_shows_how_a_percent_sign_is_escaped():
    assert "%%" not in (REPOSITORY / "docs" / "cli.md").read_text()


def test_a_stale_document_is_named(
    tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(docs, "DOCUMENTS", {"x.md": lambda: "new"})
    monkeypatch.setattr(docs, "REPOSITORY", tmp_path)
    assert docs.main(["--check"]) == 1
    assert "stale: x.md" in capsys.readouterr().err
    assert docs.main([]) == 0
    assert (tmp_path / "x.md").read_text() == "new"


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(page: Path):
    links = re.findall(r"(?:\]\(|src=\")([^)\"\s]+)", page.read_text())
    for link in (link for link in links if "://" not in link):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_command_and_file_that_a_page_names_is_there(page: Path):
    text = page.read_text()
    targets = set(
        re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    )
    assert set(re.findall(r"`(?:sudo )?make ([a-z0-9-]+)", text)) <= targets
    for module in re.findall(r"python -m (tools[\w.]*\w)", text):
        assert importlib.util.find_spec(module), module
    for name in re.findall(
        r"`((?:edge_runtime|tools|tests|examples|systemd|models)/[\w./-]+\w)`", text
    ):
        assert (REPOSITORY / name).exists(), name


def test_every_page_can_be_reached_from_the_readme():
    seen: set[Path] = set()
    ahead = [REPOSITORY / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in seen or not page.is_file():
            continue
        seen.add(page)
        if page.suffix == ".md":
            ahead += [
                (page.parent / link).resolve()
                for link in re.findall(r"\]\(([^)#\s]+)", page.read_text())
            ]
    assert [page.name for page in (REPOSITORY / "docs").rglob("*.md") if page not in seen] == []


def test_every_message_that_troubleshooting_explains_is_one_that_the_program_prints():
    page = (REPOSITORY / "docs" / "troubleshooting.md").read_text()
    messages = re.findall(r'^\*\*"([^"]+)"', page, re.MULTILINE)
    source = "".join(path.read_text() for path in (REPOSITORY / "edge_runtime").rglob("*.py"))
    assert messages
    assert [message for message in messages if message not in source] == []


def test_every_file_of_the_newcomers_walk_is_there():
    """The first name of a cell is a whole path; the others are beside it or in its package."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    cells = re.findall(r"^\| (`(?:edge_runtime|tools)/[^|]+) \|", text, re.MULTILINE)
    assert len(cells) > 20

    for cell in cells:
        first, *others = re.findall(r"`([^`]+)`", cell)
        assert (REPOSITORY / first).exists(), first
        path = REPOSITORY / first
        places = [path, path.parent, REPOSITORY / first.split("/")[0], REPOSITORY]

        for name in others:
            assert any((place / name).exists() for place in places), f"{first}: {name}"
