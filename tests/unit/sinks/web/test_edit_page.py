"""The editor in a real browser: by keyboard, on a phone, for a screen reader, and under attack."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_runtime.sinks.web import guard
from edge_runtime.sinks.web.edit_routes import with_editor
from edge_runtime.sinks.web.messages import Request, Response
from edge_runtime.sinks.web.preview import PAGE
from tests.chromium import Browser
from tests.tiny_text import write_tiny_text_encoder
from tests.unit.sinks.web.editing import TOKEN, Bench
from tests.unit.sinks.web.outline import elements_of

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
SAYS = "document.getElementById('edit-says').textContent"
FOCUS = "(document.activeElement.getAttribute('aria-label') || document.activeElement.id)"


@pytest.fixture
def bench(bench: Bench, tmp_path: Path) -> Bench:
    """With a text encoder, for new words."""
    write_tiny_text_encoder(tmp_path / "text-encoder")
    return bench


def address(bench: Bench) -> str:
    return f"http://x:{TOKEN}@127.0.0.1:{bench.port}/"


@contextmanager
def page(bench: Bench, profile: Path, **size: int) -> Iterator[Browser]:
    """A browser in which the page has shown the labels."""
    with bench.watching("red"), Browser(profile, **size) as browser:
        browser.open(address(bench))
        browser.wait("document.querySelectorAll('#edited li').length", "the labels")
        yield browser
        assert browser.console == []


def tab_to(browser: Browser, name: str) -> None:
    """Press Tab until this has the focus; fails where it can never have it."""
    for _ in range(80):
        if browser.ask(FOCUS) == name:
            return
        browser.press("Tab")
    raise AssertionError(f"Tab never reaches {name!r}")


def test_a_person_without_a_mouse_adds_a_phrase_moves_its_threshold_and_removes_it(
    bench: Bench, tmp_path: Path
):
    with page(bench, tmp_path / "profile") as browser:
        tab_to(browser, "phrase")
        browser.write("crimson")
        browser.press("Enter")
        browser.wait(f"{SAYS} === 'In use: 4 labels'")
        assert bench.names() == ["red", "green", "blue", "crimson"]
        score = "document.querySelector('[data-label=crimson] .value').textContent"
        browser.wait(f"{score} !== '…'", "the score of the new phrase")
        assert browser.ask(FOCUS) == "phrase", "the next phrase can be written at once"

        tab_to(browser, "Threshold of crimson")
        browser.press("ArrowRight", 3)
        browser.wait("!isDirty && !isSent && draftVersion", "the change of the threshold")
        threshold = bench.labels()["set"]["labels"][3]["threshold"]
        assert threshold == pytest.approx(0.38)
        assert browser.ask(FOCUS) == "Threshold of crimson", "the focus stays"
        assert "On from 38 %" in browser.ask("document.getElementById('edited').innerText")

        tab_to(browser, "More about crimson")
        browser.press("Enter")
        tab_to(browser, "Remove crimson")
        browser.press("Space")
        browser.wait(f"{SAYS} === 'In use: 3 labels'")
        assert browser.ask(FOCUS) == "phrase", "the focus is not lost with the row"
    assert bench.names() == ["red", "green", "blue"]


def test_prompts_group_and_background_are_changed_where_they_are_shown(
    bench: Bench, tmp_path: Path
):
    with page(bench, tmp_path / "profile") as browser:
        tab_to(browser, "More about red")
        browser.press("Enter")
        browser.press("Tab")
        browser.ask("document.activeElement.select()")
        browser.write("other")
        browser.press("Tab")
        browser.write("red\ncrimson\n")
        browser.press("Tab")
        browser.wait("!isDirty && !isSent && draft.labels[0].prompts.length === 2")
        assert browser.ask("document.activeElement.type") == "checkbox", "the focus stays"
        assert browser.ask("document.querySelector('#edited details').open"), "and it stays open"
        red = bench.labels()["set"]["labels"][0]
        assert (red["group"], red["prompts"]) == ("other", ["red", "crimson"])

        # A group with nothing but background is refused, and the page shows what is in use.
        browser.press("Space")
        browser.wait(f"{SAYS}.startsWith(\"Every label of group 'other' is background\")")
        browser.wait("!draft.labels[0].background")
        assert not bench.labels()["set"]["labels"][0]["background"]


def test_a_background_phrase_of_every_group_is_added_and_removed(bench: Bench, tmp_path: Path):
    with page(bench, tmp_path / "profile") as browser:
        tab_to(browser, "phrase")
        browser.write("grey")
        tab_to(browser, "kind")
        browser.ask("document.getElementById('kind').value = 'all'")
        browser.press("Tab")
        browser.press("Enter")
        browser.wait(f"{SAYS} === 'In use: 3 labels'")
        assert bench.labels()["set"]["background"] == ["a photo of nothing", "grey"]
        tab_to(browser, "Remove a photo of nothing")
        browser.press("Enter")
        browser.wait("!isDirty && !isSent && draft.background.length === 1")
    assert bench.labels()["set"]["background"] == ["grey"]


def test_teach_learn_save_and_download_by_keyboard(bench: Bench, tmp_path: Path):
    """From "this is it" to the line for the configuration, with the real `labels learn`."""
    with page(bench, tmp_path / "profile") as browser, bench.watching("green"):
        for name in ("red", "green"):
            tab_to(browser, f"This is it: {name}")
            for count in (1, 2):
                browser.press("Space")
                browser.wait(f"{FOCUS} === 'This is it ({count}): {name}'", f"picture {count}")
        assert len(list(bench.state_folder.rglob("*.jpg"))) == 4
        tab_to(browser, "More about green")
        browser.press("Enter")
        tab_to(browser, "Remove newest picture of green")
        browser.press("Enter")
        browser.wait(f"{SAYS} === \"Removed the newest picture of 'green'\"")

        tab_to(browser, "learn")
        assert browser.ask("document.activeElement.textContent") == "Learn from 3 pictures"
        browser.press("Enter")
        browser.wait(f"{SAYS}.includes('taught 2 labels')", "what learning says")

        tab_to(browser, "name")
        browser.press("Enter")
        line = "document.querySelector('#edit-line code').textContent"
        assert browser.wait(line) == f"labels: {bench.state_folder}/labels/my-labels.yaml"
        assert "section model of the configuration" in browser.ask(SAYS)
        answer = "fetch(here('labels.yaml')).then(answer => answer.text())"
        assert browser.ask(answer).startswith("labels:\n- name: red\n")


def test_a_picture_that_stands_still_is_the_one_that_is_kept(bench: Bench, tmp_path: Path):
    with page(bench, tmp_path / "profile") as browser:
        browser.ask("byId('pause').click()")
        seq = browser.wait("isPaused && shownSeq")
        shown = bench.sink._shown_jpeg(seq)
        tab_to(browser, "This is it: red")
        browser.press("Space")
        browser.wait(f"{SAYS} === \"Kept a picture of 'red'\"")
        (kept,) = bench.state_folder.rglob("*.jpg")
        assert kept.read_bytes() == shown


@pytest.mark.parametrize("width", [390, 320])
def test_a_phone_shows_all_of_it_without_scrolling_sideways(
    bench: Bench, tmp_path: Path, width: int
):
    bench.change({"name": "red" + "x" * 60, "prompts": ["red"], "group": "colour"})
    with page(bench, tmp_path / "profile", width=width, height=700) as browser:
        browser.ask("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        assert browser.ask("document.documentElement.scrollWidth") <= width
        small = browser.ask(
            "[...document.querySelectorAll('#edit button, #edit input, #edit select')]"
            ".filter(one => one.offsetParent && one.getBoundingClientRect().height < 22)"
            ".map(one => one.dataset.key || one.id)"
        )
        assert small == [], "too small for a thumb"


def test_a_screen_reader_finds_a_name_and_a_role_for_every_control(bench: Bench, tmp_path: Path):
    with page(bench, tmp_path / "profile") as browser:
        browser.ask("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        browser.wait("document.querySelector('[data-key=\"keep red\"]').ariaLabel")
        spoken = browser.spoken()
        for expected in [
            ("heading", "Change labels"),
            ("region", "Change labels"),
            ("textbox", "New label"),
            ("combobox", "Group"),
            ("button", "Add"),
            ("meter", "Score of red"),
            ("slider", "Threshold of red"),
            ("button", "This is it: red"),
            ("button", "This is it: None of these"),
            ("button", "Remove red"),
            ("checkbox", "Background"),
            ("textbox", "Prompts, one a line"),
            ("list", "Labels"),
            ("link", "Download"),
        ]:
            assert expected in spoken, expected
        controls = {"button", "textbox", "checkbox", "slider", "combobox", "meter", "link"}
        assert [role for role, name in spoken if role in controls and not name] == []
        # What changes on its own is announced, politely.
        assert browser.ask("byId('edit-says').ariaLive") == "polite"
        assert browser.ask("byId('edit-says').role") == "status"


@pytest.mark.fault("N4")
def test_script_in_a_phrase_is_text_wherever_the_editor_shows_it(bench: Bench, tmp_path: Path):
    hostile = {"name": HOSTILE, "prompts": ["red", f"{HOSTILE} red"], "group": f"{HOSTILE} group"}
    with page(bench, tmp_path / "profile") as browser:
        bench.change(hostile)
        present = bench.labels()
        present["set"]["background"] = [f"{HOSTILE} background"]
        bench.post("/labels", present)
        bench.settled()
        browser.wait("document.querySelectorAll('#edited li').length === 4")
        browser.wait("draft.background.length === 1")
        browser.ask("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        text = browser.ask("byId('edit').innerText")
        assert HOSTILE in text
        assert f"{HOSTILE} background" in text
        assert browser.ask("document.images.length") == 1, "the live picture"
        assert browser.ask("document.title") != "owned"
        # In what the editor says, too.
        bench.post("/keep", {"label": HOSTILE, "seq": bench.get("/state")["record"]["seq"]})
        browser.ask(f"say({HOSTILE!r}, true)")
        assert browser.ask("document.images.length") == 1
        status, _ = bench.post("/labels", {**bench.labels(), "set": {"labels": ["a", "A"]}})
        assert status == 400


@pytest.mark.fault("E3")
def test_the_second_of_two_people_keeps_calm_and_sees_the_labels_of_the_first(
    bench: Bench, tmp_path: Path
):
    with page(bench, tmp_path / "profile") as browser:
        bench.change("dark red")
        browser.wait("draft.labels.length === 4", "the labels of somebody else")
        # The first one changes labels after this page has looked and before it sends.
        browser.ask("window.kept = showEdit; showEdit = async () => {}")
        bench.change("grey")
        browser.ask("draft.labels[0].threshold = 0.9; isDirty = true")
        browser.ask("showEdit = kept")
        browser.wait(f"{SAYS}.startsWith('The labels have changed meanwhile')")
        browser.wait("draft.labels.length === 5")
        assert browser.ask("byId('edit-says').className") == "warn"
        assert "grey" in browser.ask("byId('edited').innerText")
    assert bench.labels()["set"]["labels"][0]["threshold"] is None


ATTACK = """<!DOCTYPE html><title>attack</title><form id="f" method="post" enctype="text/plain"
action="TARGETlabels"><input name='{"version":1,"x":"' value='","set":{"labels":["owned"]}}'></form>
<script>
const said = [];
async function attack(options) {
  try {
    const answer = await fetch("TARGETlabels", {method: "POST", body: BODY, ...options});
    said.push(answer.type);
  } catch (error) { said.push("blocked"); }
}
(async () => {
  await attack({mode: "no-cors", credentials: "include"});
  await attack({credentials: "include", headers: {"X-Edge-Label": "x"}});
  await attack({credentials: "include", headers: {"Content-Type": "application/json"}});
  await attack({mode: "no-cors", credentials: "include", headers: {"X-Edge-Label": "x"}});
  document.title = "done";
})();
</script>"""


@pytest.mark.fault("E1")
def test_another_site_in_the_same_browser_changes_nothing_although_the_browser_knows_the_token(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    refused = []
    refusal = guard.refusal

    def noted(request: Request) -> Response | None:
        answer = refusal(request)
        if answer and request.origin.startswith("http://localhost:"):
            refused.append(answer.status)
        return answer

    monkeypatch.setattr(guard, "refusal", noted)
    target = f"http://127.0.0.1:{bench.port}/"
    body = json.dumps({"version": bench.labels()["version"], "set": {"labels": ["owned"]}})
    html = ATTACK.replace("TARGET", target).replace("BODY", repr(body))

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_: object) -> None:
            pass

    site = http.server.HTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    with bench.watching("red"), Browser(tmp_path / "profile") as browser:
        browser.open(address(bench))
        browser.wait("document.querySelectorAll('#edited li').length")
        browser.open(f"http://localhost:{site.server_address[1]}/")
        browser.wait("document.title === 'done'")
        assert browser.ask("said") == 4 * ["blocked"]
        browser.ask("document.getElementById('f').submit()")
        browser.wait("!document.getElementById('f')", "the answer to the form")
        assert "another web page may not change labels" in browser.ask("document.body.innerText")
    site.shutdown()
    assert refused, "its requests came here"
    assert bench.names() == ["red", "green", "blue"]
    assert bench.editor.notice.number == 0
    assert not bench.state_folder.exists()


@pytest.mark.fault("K1")
def test_a_page_with_the_editor_needs_one_connection_too(bench: Bench, tmp_path: Path):
    taken = set()
    respond = bench.sink._server._respond

    def noted(request: object, body: bytes, connection: object) -> object:
        taken.add(id(connection))
        return respond(request, body, connection)

    bench.sink._server._respond = noted
    with bench.watching("red"), Browser(tmp_path / "profile") as browser:
        browser.open(address(bench))
        browser.wait("document.querySelectorAll('#edited li').length")
        tab_to(browser, "phrase")
        for phrase in ("grey", "crimson"):
            browser.write(phrase)
            browser.press("Enter")
        browser.wait(f"{SAYS} === 'In use: 5 labels'")
        tab_to(browser, "This is it: red")
        browser.press("Space")
        browser.wait(f"{SAYS} === \"Kept a picture of 'red'\"")
    assert len(taken) == 1


def test_the_editor_has_no_script_in_its_elements_and_its_policy_allows_no_other():
    text = with_editor(PAGE.read_bytes()).decode()
    assert text.count("<script>") == text.count("<style>") == 1
    assert "<!-- edit -->" in text
    for word in ("http:", "https:", "innerHTML", "outerHTML", "insertAdjacent", "eval("):
        assert word not in text
    assert len(text) < 30_000
    elements_of(text)
