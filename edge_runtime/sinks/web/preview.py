"""The page at http://127.0.0.1:8080: live picture, labels by group, status, changes.

While nobody looks, a frame costs one assignment and one comparison. A picture is encoded only when
somebody asks for it, and once for all viewers.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.config import PreviewConfig
from edge_runtime.errors import DataError, UsageError
from edge_runtime.model.labels.scorer import Scorer
from edge_runtime.records import CameraState, Frame, LabelledFrame, LabelRecord
from edge_runtime.sinks.changes import LabelChanges
from edge_runtime.sinks.web.groups import shown_groups
from edge_runtime.sinks.web.http import HttpServer
from edge_runtime.sinks.web.messages import Response
from edge_runtime.sinks.web.token import read_token
from edge_runtime.system.digest import sha256_hex

if TYPE_CHECKING:
    from edge_runtime.sinks.web.edit_routes import EditRoutes
    from edge_runtime.sinks.web.editor import Editor

log = logging.getLogger("edge_label.preview")

PAGE = Path(__file__).with_name("preview.html")
MAX_EVENTS = 50
SHOWN = 8  # pictures that a page may still show when a person presses "this is", at 8 a second


class PreviewSink:
    """Serves the page.

    ``to_jpeg`` encodes the picture of a frame, ``scorer`` gives the one that is in use. With an
    ``editor`` the page can change the labels.

    Raises ConfigError for an address or a token that cannot be used.
    """

    name = "preview"

    def __init__(
        self,
        config: PreviewConfig,
        to_jpeg: Callable[[Frame], bytes],
        camera_state: Callable[[], CameraState],
        scorer: Callable[[], Scorer],
        editor: Editor | None = None,
    ) -> None:
        self._to_jpeg = to_jpeg
        self._camera_state = camera_state
        self._scorer = scorer
        self._newest: LabelledFrame | None = None
        # The newest pictures that were asked for, with the numbers of their records, and the frame
        # of the last one. Only the server's thread uses them.
        self._shown: deque[tuple[int, bytes]] = deque(maxlen=SHOWN if editor else 1)
        self._shown_frame: Frame | None = None

        # The pipeline's thread adds events, the server's thread lists them.
        self._events_lock = threading.Lock()
        self._events: deque[dict[str, object]] = deque(maxlen=MAX_EVENTS)
        self._event_count = 0
        self._changes = LabelChanges()

        page = PAGE.read_bytes()
        routes = {
            "/": self._answer_page,
            "/state": self._answer_state,
            "/picture.jpg": self._answer_picture,
        }
        self._edit: EditRoutes | None = None
        post_routes = {}
        if editor:
            from edge_runtime.sinks.web.edit_routes import EditRoutes, with_editor

            self._edit = EditRoutes(editor, self._shown_jpeg)
            routes |= self._edit.routes
            post_routes = self._edit.post_routes
            page = with_editor(page)
        self._page = _page(page)

        token = read_token(config.token_file)
        self._server = HttpServer("preview", config.listen, routes, token, post_routes)
        host, port = self._server.address
        log.info("preview: http://%s:%d/", f"[{host}]" if ":" in host else host, port)

    @property
    def address(self) -> tuple[str, int]:
        """(host, port) where it listens."""
        return self._server.address

    def write(self, labelled: LabelledFrame) -> None:
        """Keep the newest record and frame, and note which labels changed."""
        record = labelled.record
        self._newest = labelled
        on, off = self._changes(record)
        if not on and not off:
            return
        with self._events_lock:
            for label in on:
                self._note(record, label.name, on=True, score=label.score)
            for name in off:
                self._note(record, name, on=False, score=None)

    def close(self) -> None:
        """Stop serving."""
        self._server.close()
        if self._edit:
            self._edit.close()

    def _note(self, record: LabelRecord, label: str, *, on: bool, score: float | None) -> None:
        self._event_count += 1
        event = {
            "id": self._event_count,
            "time": record.time,
            "label": label,
            "on": on,
            "score": score,
        }
        self._events.append(event)

    def _answer_page(self) -> Response:
        return self._page

    def _answer_state(self) -> Response:
        newest = self._newest
        scorer = self._scorer()
        with self._events_lock:
            events = list(self._events)
        state = {
            "camera_state": self._camera_state(),
            "record": newest.record.to_dict() if newest else None,
            "groups": shown_groups(newest, scorer) if newest else [],
            "events": events,
        }
        if self._edit:
            state["edit"] = self._edit.status(newest, scorer)
        return Response(json.dumps(state, allow_nan=False).encode(), "application/json")

    def _answer_picture(self) -> Response:
        newest = self._newest
        if newest is None or newest.frame is None:
            return Response(b"no picture yet\n", status=HTTPStatus.SERVICE_UNAVAILABLE)
        try:
            if self._shown_frame is not newest.frame:
                self._shown.append((newest.record.seq, self._to_jpeg(newest.frame)))
                self._shown_frame = newest.frame
        except DataError as error:
            return Response(f"{error}\n".encode(), status=HTTPStatus.SERVICE_UNAVAILABLE)
        return Response(self._shown[-1][1], "image/jpeg")

    def _shown_jpeg(self, seq: int) -> bytes | None:
        """The picture of a page that shows the record ``seq``; None where it is forgotten.

        The page asks for the record first, so its picture is of that record or a little newer.
        Raises UsageError where the picture holds less than the frame: it would teach another one.
        """
        if self._shown_frame is not None and self._shown_frame.encoding in ("y16", "f32"):
            raise UsageError(
                "a picture of 16 bits cannot be kept here",
                "put its files into folders and run: edge-label labels learn",
            )
        if len(self._shown) == self._shown.maxlen and seq < self._shown[0][0]:
            return None
        return next((jpeg for number, jpeg in self._shown if number >= seq), None)


def _page(html: bytes) -> Response:
    """The page, with a policy that allows its own script and style, and requests to us alone."""
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hash_of(html, b'script')}",
            f"style-src {_hash_of(html, b'style')}",
            "img-src 'self' data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
    header = f"Content-Security-Policy: {policy}"
    return Response(html, "text/html; charset=utf-8", headers=(header,))


def _hash_of(html: bytes, tag: bytes) -> str:
    """The text between two tags as the source expression of a policy, ``'sha256-...'``."""
    match = re.search(b"<%s>(.*?)</%s>" % (tag, tag), html, re.DOTALL)
    if match is None:
        raise RuntimeError(f"{PAGE.name} has no inline {tag.decode()}")
    digest = bytes.fromhex(sha256_hex(match[1]))
    return f"'sha256-{base64.b64encode(digest).decode()}'"
