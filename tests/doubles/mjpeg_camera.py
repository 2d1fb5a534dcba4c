"""A real network camera on loopback: MJPEG over HTTP.

It can be unplugged, stall, freeze, go dark and send rubbish.
"""

from __future__ import annotations

import itertools
import socket
import threading
import time

import cv2
import numpy as np

_PART = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n"
_HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"


def jpegs(count: int = 60, size: tuple[int, int] = (320, 240)) -> list[bytes]:
    """Red stripes that wander, so that no frame is like the one before."""
    width, height = size
    pictures = []
    for i in range(count):
        picture = np.zeros((height, width, 3), np.uint8)
        stripes = (np.arange(width) + 3 * i) // 20 % 2
        picture[:, :, 2] = 60 + 150 * stripes
        pictures.append(cv2.imencode(".jpg", picture)[1].tobytes())
    return pictures


class MjpegCamera:
    """Serves ``url``. ``mode`` may change at any time: ok, stall, frozen, dark, broken."""

    def __init__(self, fps: int = 30) -> None:
        self.mode = "ok"
        self.connections = 0
        self._interval_s = 1 / fps
        self._pictures = jpegs()
        self._dark = cv2.imencode(".jpg", np.zeros((240, 320, 3), np.uint8))[1].tobytes()
        self._listener: socket.socket | None = None
        self._clients: set[socket.socket] = set()
        self._port = 0
        self.plug_in()
        self.url = f"http://127.0.0.1:{self._port}/stream.mjpg"

    def plug_in(self) -> None:
        """Listen, at the same port as before."""
        listener = socket.create_server(("127.0.0.1", self._port), reuse_port=False)
        self._port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def unplug(self) -> None:
        """Drop every client and stop listening."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for client in list(self._clients):
            try:
                client.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def __enter__(self) -> MjpegCamera:
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._clients.add(client)
        rng = np.random.default_rng(0)
        try:
            with client:
                if not client.recv(4096):
                    return  # somebody knocked to see whether the camera is back
                self.connections += 1
                client.sendall(_HEAD)
                for picture in itertools.cycle(self._pictures):
                    data = {"frozen": self._pictures[0], "dark": self._dark}.get(self.mode, picture)
                    if self.mode == "broken":
                        data = data[:200] + rng.bytes(len(data) - 200)
                    if self.mode != "stall":
                        client.sendall(_PART % (len(data), data))
                    time.sleep(self._interval_s)
        except OSError:
            pass
        finally:
            self._clients.discard(client)
