"""Who may change labels through the page, and what a bad request gets."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.config import Config, PreviewConfig
from edge_runtime.errors import ConfigError
from edge_runtime.sinks.web import guard
from edge_runtime.sinks.web import http as http_module
from edge_runtime.sinks.web.editor import MAX_PHRASES
from edge_runtime.sinks.web.http import HttpServer
from edge_runtime.sinks.web.messages import Response
from edge_runtime.system import strict_yaml
from tests.unit.sinks.web.editing import TOKEN, Bench, basic


def whole_set(bench: Bench, *labels: object) -> dict[str, object]:
    return {"version": bench.labels()["version"], "set": {"labels": list(labels)}}


@pytest.mark.fault("E1")
@pytest.mark.parametrize(
    ("expected", "headers"),
    [
        (401, {"Authorization": None}),
        (401, {"Authorization": "Bearer fedcba9876543210"}),
        (401, {"Authorization": basic(TOKEN[:-1])}),
        (403, {"Origin": "http://evil.example"}),
        (403, {"Origin": "https://127.0.0.1.evil.example"}),
        (403, {"Origin": "http://127.0.0.1:1"}),
        (403, {"Origin": "http://localhost"}),
        (403, {"Origin": "null"}),
        (403, {"Origin": None}),
        (403, {"X_Edge_Label": None}),
        (415, {"Content_Type": "text/plain"}),
        (415, {"Content_Type": "application/x-www-form-urlencoded"}),
        (415, {"Content_Type": None}),
    ],
)
def test_no_other_web_page_and_nobody_without_the_token_changes_a_label(
    bench: Bench, expected: int, headers: dict[str, str | None]
):
    """A cross-site POST carries the token by itself; what it cannot carry is missing here."""
    for path in ("/labels", "/keep", "/remove", "/learn", "/save"):
        body = {**whole_set(bench, "owned"), "label": "red", "seq": 0, "name": "owned"}
        assert bench.post(path, body, **headers)[0] == expected
    assert bench.names() == ["red", "green", "blue"]
    assert not bench.state_folder.exists()


@pytest.mark.fault("E1")
def test_a_browser_that_asks_whether_another_site_may_post_gets_no_permission(bench: Bench):
    status, answer = bench.ask(
        "OPTIONS",
        "/labels",
        Origin="http://evil.example",
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="x-edge-label",
        Authorization=None,
    )
    assert status == 401
    assert b"Access-Control" not in answer
    assert bench.ask("OPTIONS", "/labels")[0] == 405


@pytest.mark.fault("E1")
@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "camera.evil.example", ""])
def test_a_name_that_is_not_ours_changes_nothing_on_any_address(
    bench: Bench, host: str, monkeypatch: pytest.MonkeyPatch
):
    """DNS rebinding: the stranger's page has our address, so its Origin and its Host agree."""
    body = whole_set(bench, "owned")
    assert bench.ask("POST", "/labels", body, Host=host, Origin=f"http://{host}")[0] == 421
    # On an address that others can reach, any name is served, but none may change anything.
    monkeypatch.setattr(bench.sink._server, "_hosts", None)
    assert bench.ask("POST", "/labels", body, Host=host, Origin=f"http://{host}")[0] == 421
    assert bench.names() == ["red", "green", "blue"]


@pytest.mark.parametrize("host", ["192.168.0.7:8080", "[fe80::1]:8080", "porch", "porch.local:80"])
def test_on_a_public_address_the_address_and_the_machines_own_name_are_good(
    bench: Bench, host: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bench.sink._server, "_hosts", None)
    monkeypatch.setattr(socket, "gethostname", lambda: "Porch")
    assert bench.ask("POST", "/learn", {}, Host=host, Origin=f"http://{host}")[0] == 202


def test_a_person_at_the_page_changes_labels_and_sees_scores(bench: Bench):
    assert bench.edit()["scores"]["red"][0] > 0.5
    notice = bench.change({"name": "dark red", "group": "colour"}, remove="blue")
    assert notice["text"] == "In use: 3 labels"
    bench.see("red")
    assert bench.edit()["scores"].keys() == {"red", "green", "dark red"}
    assert bench.names() == ["red", "green", "dark red"]


@pytest.mark.fault("E2")
def test_ten_thousand_phrases_are_refused_and_nothing_is_written(bench: Bench):
    for labels in (
        [f"p{i}" for i in range(10_000)],
        [{"name": "one", "prompts": [f"p{i}" for i in range(10_000)]}],
        ["one", *({"name": f"l{i}", "prompts": ["a", "b"]} for i in range(MAX_PHRASES // 2))],
    ):
        status, said = bench.post("/labels", whole_set(bench, *labels))
        assert status == 400
        assert f"more than {MAX_PHRASES}" in said["error"]
    assert bench.names() == ["red", "green", "blue"]
    assert not bench.state_folder.exists()


@pytest.mark.fault("E2")
def test_a_phrase_of_100_kb_is_refused_in_one_line(bench: Bench):
    status, said = bench.post("/labels", whole_set(bench, "x" * 100_000))
    assert status == 400
    assert said["error"].endswith("has 100000 characters; the limit is 300")
    assert len(said["error"]) < 200


@pytest.mark.fault("E2")
def test_a_body_that_is_too_large_is_refused_before_it_is_read(bench: Bench):
    head = (
        f"POST /labels HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\n"
        f"Authorization: Bearer {TOKEN}\r\nX-Edge-Label: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {guard.MAX_BODY + 1}\r\n\r\n"
    )
    with socket.create_connection(bench.sink.address, 10) as client:
        client.sendall(head.encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


@pytest.mark.fault("E2")
def test_a_body_that_drips_is_cut_off_in_time(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_module, "BODY_S", 0.5)
    head = (
        f"POST /learn HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\n"
        f"Authorization: Bearer {TOKEN}\r\nX-Edge-Label: x\r\nContent-Type: application/json\r\n"
        "Content-Length: 1000\r\n\r\n"
    )
    with socket.create_connection(bench.sink.address, 20) as client:
        client.sendall(head.encode())
        start = time.monotonic()
        with pytest.raises(OSError, match=r"reset|pipe"):  # noqa: PT012
            for _ in range(200):
                client.sendall(b" ")
                time.sleep(0.05)
    assert time.monotonic() - start < 5
    assert bench.edit()["doing"] == ""


@pytest.mark.fault("E2")
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 50_000, "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"version": "1"}', "no version"),
        (b'{"version": true}', "no version"),
        ({"set": {}}, "no version"),
        ({"version": 1, "set": []}, "no set"),
        ({"version": 1, "set": {"labels": []}}, "label set is empty"),
        ({"version": 1, "set": {"labels": "red"}}, "must be a list"),
        ({"version": 1, "set": {"labels": ["red"], "extra": 1}}, "Unknown key 'extra'"),
        ({"version": 1, "set": {"labels": [{"name": "red", "threshold": 7}]}}, "between 0 and 1"),
        ({"version": 1, "set": {"labels": [{"name": "a\x1b[31m"}]}}, "control characters"),
        ({"version": 1, "set": {"labels": ["red", "Red "]}}, "given twice"),
        (b'{"version": 1, "set": {"labels": [{"name": "red", "threshold": NaN}]}}', "a number"),
        (b'{"version": 1, "set": {"labels": ["\\ud800"]}}', "invalid Unicode"),
        ({"version": 1, "set": {"labels": [{"name": "red", "background": True}]}}, "background"),
    ],
)
def test_what_is_no_label_set_is_refused_in_one_line_that_a_person_understands(
    bench: Bench, body: object, says: str
):
    status, said = bench.post("/labels", body)
    assert status == 400
    assert says in said["error"]
    assert "\n" not in said["error"]
    assert "the labels:" not in said["error"], "there is no file, so no line of it"


@pytest.mark.fault("E3")
def test_of_two_editors_the_second_gets_a_calm_message_and_the_present_labels(bench: Bench):
    first = second = bench.labels()
    change = {"version": first["version"], "set": {"labels": ["red", "green"]}}
    assert bench.post("/labels", change)[0] == 202
    bench.settled()
    other = {"version": second["version"], "set": {"labels": ["blue", "grey"]}}
    status, said = bench.post("/labels", other)
    assert status == 409
    assert said["error"].startswith("The labels have changed meanwhile; the page shows them now")
    assert bench.names() == ["red", "green"]
    assert bench.labels()["version"] == first["version"] + 1


@pytest.mark.fault("E3")
def test_while_a_change_is_made_another_one_waits_its_turn(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    going_on = threading.Event()
    monkeypatch.setattr(bench.editor, "_use_labels", lambda *_: going_on.wait(20))
    body = whole_set(bench, "red", "green")
    assert bench.post("/labels", body)[0] == 202
    status, said = bench.post("/labels", body)
    going_on.set()
    assert (status, said["error"]) == (409, "Still changing the labels; try again")
    bench.settled()


@pytest.mark.fault("E4")
@pytest.mark.parametrize(
    "label", ["../../owned", "/etc/owned", "..", ".", ".hidden", "a/b", "none", "x" * 300, "%2e%2e"]
)
def test_no_name_of_a_label_leads_out_of_the_folder_of_its_pictures(bench: Bench, label: str):
    bench.change({"name": label, "prompts": ["red"], "group": "other"})
    bench.see("red")
    bench.ask("GET", "/picture.jpg")
    seq = bench.get("/state")["record"]["seq"]
    assert bench.post("/keep", {"label": label, "seq": seq})[0] == 202
    notice = bench.settled()
    kept = sorted(bench.state_folder.rglob("*.jpg"))
    if label == "x" * 300:
        assert notice["is_error"]
        assert kept == []
        return
    assert [path.parent.parent for path in kept] == [bench.state_folder / "page" / "pictures"]
    assert not kept[0].parent.name.startswith(".")
    assert kept[0].parent.name != "none", "that folder is for none of the labels"
    assert bench.edit()["pictures"] == {label: 1}
    assert not list(bench.state_folder.parent.glob("owned*"))


@pytest.mark.fault("E4")
@pytest.mark.parametrize("name", ["", "../owned", "a/b", ".", "x" * 65, "a b", "ü", "a\0"])
def test_a_set_is_saved_under_a_plain_name_only(bench: Bench, name: str):
    status, said = bench.post("/save", {"name": name})
    assert status == 400
    assert "letters, digits" in said["error"]
    assert not bench.state_folder.exists()


def test_a_label_that_the_set_lacks_gets_no_pictures(bench: Bench):
    bench.ask("GET", "/picture.jpg")
    status, said = bench.post("/keep", {"label": "purple", "seq": 0})
    assert (status, said["error"]) == (400, "The label set has no such label; add it first")


def test_a_picture_that_nobody_sees_any_more_is_not_kept(bench: Bench):
    for _ in range(20):
        bench.see("red")
        bench.ask("GET", "/picture.jpg")
    assert bench.post("/keep", {"label": "red", "seq": 3})[0] == 409
    assert bench.post("/keep", {"label": "red", "seq": 20})[0] == 202
    assert bench.settled()["text"] == "Kept a picture of 'red'"


def test_a_picture_of_16_bits_is_not_kept_as_one_of_eight(bench: Bench):
    bench.see("red")
    newest = bench.sink._newest
    depth = np.full((480, 640), 1000, np.uint16)
    bench.sink.write(replace(newest, frame=replace(newest.frame, data=depth, encoding="y16")))
    bench.ask("GET", "/picture.jpg")
    status, said = bench.post("/keep", {"label": "red", "seq": newest.record.seq})
    assert status == 400
    assert said["error"].startswith("A picture of 16 bits cannot be kept here; put its files")


def test_what_is_downloaded_is_the_label_set_as_a_file(bench: Bench):
    bench.change({"name": "dark red", "group": "colour", "threshold": 0.5})
    status, text = bench.ask("GET", "/labels.yaml")
    assert status == 200
    assert b"- name: dark red\n  threshold: 0.5\n  group: colour\n" in text


@pytest.mark.fault("E1")
def test_editing_without_a_token_is_refused_with_78_also_on_loopback():
    with pytest.raises(ConfigError, match="token_file") as caught:
        strict_yaml.parse("preview: {edit: true}", "x.yaml", Config)
    assert caught.value.exit_code == 78
    strict_yaml.parse("preview: {edit: true, token_file: t}", "x.yaml", Config)
    assert PreviewConfig().edit is False
    with pytest.raises(ValueError, match="everybody"):
        HttpServer("test", "127.0.0.1:0", {}, None, {"/x": Response})


def test_without_edit_there_is_nothing_to_post_to(bench: Bench, tmp_path: Path):
    from tests.unit.sinks.web.test_preview import open_sink

    sink = open_sink()
    plain = Bench.__new__(Bench)
    plain.port = sink.address[1]
    for path in ("/labels", "/keep", "/learn", "/save"):
        assert plain.ask("POST", path, {})[0] == 400
        assert plain.ask("GET", path)[0] == 404
    assert "edit" not in json.loads(plain.ask("GET", "/state")[1])
    sink.close()
