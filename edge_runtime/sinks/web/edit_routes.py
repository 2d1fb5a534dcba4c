"""What the page asks of the editor: paths, JSON bodies, and answers with their status."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml

from edge_runtime.errors import EdgeLabelError, UsageError
from edge_runtime.model.labels.label_set import LabelSet, parse_label_set
from edge_runtime.model.labels.label_yaml import label_set_yaml
from edge_runtime.model.labels.scorer import Scorer
from edge_runtime.records import LabelledFrame
from edge_runtime.sinks.web.editor import MAX_PHRASES, ConflictError, Editor
from edge_runtime.sinks.web.groups import scores_of
from edge_runtime.sinks.web.messages import Response

_WHERE = "the labels"
_FOLDER = Path(__file__).parent


class EditRoutes:
    """The paths of the editor. ``picture`` gives the JPEG of a record that the page showed."""

    def __init__(self, editor: Editor, picture: Callable[[int], bytes | None]) -> None:
        self._editor = editor
        self._picture = picture
        self.routes = {"/labels": self._labels, "/labels.yaml": self._download}
        self.post_routes = {
            "/labels": self._post(self._change),
            "/keep": self._post(self._keep),
            "/remove": self._post(self._remove),
            "/learn": self._post(self._learn),
            "/save": self._post(self._save),
        }

    def status(self, newest: LabelledFrame | None, scorer: Scorer) -> dict[str, Any]:
        """What the page has to know at every look, as plain JSON types."""
        editor = self._editor
        try:
            version = editor.present().version
        except EdgeLabelError:  # `/labels` says why there is nothing to change
            version = 0
        notice = asdict(editor.notice)
        return {
            "version": version,
            "doing": editor.doing,
            "notice": notice,
            "pictures": editor.pictures.counts(),
            "scores": _scores(newest, scorer) if version else {},
        }

    def _labels(self) -> Response:
        try:
            present = self._editor.present()
        except EdgeLabelError as error:
            return _error(error)
        return _json({"version": present.version, "set": asdict(present.label_set)})

    def _download(self) -> Response:
        try:
            text = label_set_yaml(self._editor.present().label_set)
        except EdgeLabelError as error:
            return _error(error)
        disposition = 'Content-Disposition: attachment; filename="labels.yaml"'
        return Response(text.encode(), "application/yaml", headers=(disposition,))

    def _post(self, action: Callable[[dict[str, Any]], None]) -> Callable[[bytes], Response]:
        """An action as a route: it gets the body and begins a job, whose end `status` tells."""

        def answer(body: bytes) -> Response:
            try:
                action(_parse(body))
            except EdgeLabelError as error:
                return _error(error)
            return _json({"doing": self._editor.doing}, HTTPStatus.ACCEPTED)

        return answer

    def _change(self, body: dict[str, Any]) -> None:
        self._editor.change(_get(body, "version", int), _label_set(_get(body, "set", dict)))

    def _keep(self, body: dict[str, Any]) -> None:
        label = _get(body, "label", str)
        jpeg = self._picture(_get(body, "seq", int))
        if jpeg is None:
            raise ConflictError("that picture is gone; press again for the one you see")
        self._editor.keep(label, jpeg)

    def _remove(self, body: dict[str, Any]) -> None:
        self._editor.remove_newest(_get(body, "label", str))

    def _learn(self, _body: dict[str, Any]) -> None:
        self._editor.learn()

    def _save(self, body: dict[str, Any]) -> None:
        self._editor.save(_get(body, "name", str))

    def close(self) -> None:
        """End what goes on."""
        self._editor.close()


def with_editor(page: bytes) -> bytes:
    """The page with the style, the section and the script of the editor in their places."""
    for place, name in ((b"</style>", "edit.css"), (b"<!-- edit -->", "edit.html")):
        page = page.replace(place, _FOLDER.joinpath(name).read_bytes() + place, 1)
    return page.replace(b"</script>", _FOLDER.joinpath("edit.js").read_bytes() + b"</script>", 1)


def _scores(newest: LabelledFrame | None, scorer: Scorer) -> dict[str, list[float]]:
    """[score, threshold] of every label, background too; nothing where the frame has none."""
    scores = scores_of(newest, scorer) if newest else None
    if scores is None:
        return {}

    labels = scorer.labels
    pairs = zip(scores.scores.tolist(), labels.thresholds.tolist(), strict=True)
    return {
        name: [round(score, 4), round(threshold, 4)]
        for name, (score, threshold) in zip(labels.names, pairs, strict=True)
    }


def _parse(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UsageError("the request is not JSON") from error
    if not isinstance(value, dict):
        raise UsageError("the request is not a JSON object")
    return value


def _get(body: dict[str, Any], key: str, kind: type) -> Any:
    value = body.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise UsageError(f"the request has no {key}, or one of another kind")
    return value


def _label_set(entry: dict[str, Any]) -> LabelSet:
    """A label set as ``/labels`` gives it, checked by the rules of a file. Raises UsageError."""
    # Before it is made YAML, which takes a while for thousands.
    labels = entry.get("labels")
    if isinstance(labels, list) and len(labels) > MAX_PHRASES:
        raise UsageError(f"{len(labels)} labels are more than {MAX_PHRASES}", "write a file")
    try:
        return parse_label_set(yaml.safe_dump(entry, allow_unicode=True), _WHERE)
    except EdgeLabelError as error:
        # The line is one of a file that nobody sees.
        what = re.sub(rf"^{_WHERE}(:\d+)?: ", "", error.what)
        raise UsageError(what, error.advice) from error


def _json(value: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(json.dumps(value, allow_nan=False).encode(), "application/json", status)


def _error(error: EdgeLabelError) -> Response:
    conflict = isinstance(error, ConflictError)
    status = HTTPStatus.CONFLICT if conflict else HTTPStatus.BAD_REQUEST
    text = str(error)
    return _json({"error": text[:1].upper() + text[1:]}, status)
