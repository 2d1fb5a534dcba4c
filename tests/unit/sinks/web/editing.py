"""The page with its editor over a real pipeline: what a browser, or an attacker, can ask of it."""

from __future__ import annotations

import http.client
import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.camera.jpeg import JpegEncoder
from edge_runtime.camera.privacy import Privacy
from edge_runtime.config import ModelConfig, PreviewConfig
from edge_runtime.engine import Engine, load_engine
from edge_runtime.model.labels.compiled import CompiledLabels
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import Frame
from edge_runtime.sinks.web.editor import Editor
from edge_runtime.sinks.web.preview import PreviewSink
from edge_runtime.system.telemetry import THERMAL_ZONES
from tests.daemon import wait_until

TOKEN = "0123456789abcdef"
COLOURS = {"red": (40, 40, 220), "green": (40, 220, 40), "blue": (220, 40, 40)}  # BGR


class Bench:
    """A page at `sink`, its state directory at `state_folder`, and a pipeline with the labels."""

    def __init__(self, folder: Path, bundle: Path, privacy: Privacy | None = None) -> None:
        token = folder / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        self.state_folder = folder / "kept"
        self.frames = 0
        self._between_frames = threading.Lock()
        self.privacy = privacy
        self.config = ModelConfig(bundle=str(bundle), labels="colours")
        engine = load_engine(self.config)
        self.pipeline = Pipeline(engine, camera="test", privacy=privacy)
        self.editor = Editor(self.state_folder, lambda: self.pipeline.engine, self.use)
        config = PreviewConfig("127.0.0.1:0", token_file=str(token), edit=True)
        self.sink = PreviewSink(
            config, JpegEncoder(), lambda: "ok", lambda: self.pipeline.engine.score, self.editor
        )
        self.port = self.sink.address[1]

    def close(self) -> None:
        self.sink.close()

    def use(self, labels: CompiledLabels, instead_of: Engine) -> None:
        """What the daemon's loop does between two frames."""
        assert self.pipeline.engine is instead_of
        self._switch(instead_of.with_labels(labels))

    def reload(self) -> None:
        """What SIGHUP does."""
        self._switch(load_engine(self.config, self.pipeline.engine))

    def _switch(self, engine: Engine) -> None:
        with self._between_frames:
            self.pipeline.switch(engine, "test", THERMAL_ZONES, self.privacy, None)

    def see(self, colour: str) -> None:
        """A frame of one colour, 640 pixels wide."""
        pixels = np.empty((480, 640, 3), np.uint8)
        self.frames += 1
        pixels[:] = np.array(COLOURS[colour]) - self.frames % 30  # no two are the same
        pixels[::64, ::64] = 255
        pixels[:240:2] //= 2  # not flat
        with self._between_frames:
            self.sink.write(self.pipeline.process(Frame(pixels, "bgr", 0.0, 0.0)))

    @contextmanager
    def watching(self, *colours: str) -> Iterator[None]:
        """A camera that sees these colours in turn, each for a second, until the end."""
        over = threading.Event()

        def see() -> None:
            while not over.wait(0.05):
                self.see(colours[self.frames // 20 % len(colours)])

        camera = threading.Thread(target=see, daemon=True)
        camera.start()
        try:
            yield
        finally:
            over.set()
            camera.join(20)

    def ask(
        self, method: str, path: str, body: Any = None, **headers: str | None
    ) -> tuple[int, bytes]:
        """(status, body). A header of None is left out; ``_`` stands for ``-``."""
        own = f"127.0.0.1:{self.port}"
        wanted: dict[str, str | None] = {
            "Host": own,
            "Authorization": f"Bearer {TOKEN}",
            "Origin": f"http://{own}",
            "X-Edge-Label": "page",
            "Content-Type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host=True)
            for name, value in wanted.items():
                if value is not None:
                    connection.putheader(name, value)
            if data is not None:
                connection.putheader("Content-Length", str(len(data)))
            connection.endheaders(data)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def post(self, path: str, body: Any, **headers: str | None) -> tuple[int, Any]:
        """(status, what the answer says)."""
        status, answer = self.ask("POST", path, body, **headers)
        text = answer.decode()
        return status, json.loads(text) if text.startswith("{") else text

    def get(self, path: str) -> Any:
        status, answer = self.ask("GET", path)
        assert status == 200, answer
        return json.loads(answer)

    def labels(self) -> dict[str, Any]:
        return self.get("/labels")

    def edit(self) -> dict[str, Any]:
        """What the page is told at every look."""
        return self.get("/state")["edit"]

    def settled(self) -> dict[str, Any]:
        """The notice of the job, when it has ended."""
        wait_until(lambda: not self.editor.doing, what="the end of the job")
        return self.edit()["notice"]

    def change(self, *add: Any, remove: str = "") -> dict[str, Any]:
        """Add and remove labels as the page does; returns the notice."""
        present = self.labels()
        label_set = present["set"]
        label_set["labels"] = [one for one in label_set["labels"] if one["name"] != remove]
        label_set["labels"] += add
        status, said = self.post("/labels", {"version": present["version"], "set": label_set})
        assert status == 202, said
        return self.settled()

    def names(self) -> list[str]:
        return [label["name"] for label in self.labels()["set"]["labels"]]


def basic(token: str) -> str:
    return f"Basic {b64encode(f'x:{token}'.encode()).decode()}"
