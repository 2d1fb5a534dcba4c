"""A real RTSP server, from Debian's archive: H.264 whose pictures say when they were taken.

Run as a program by the system's Python, which has GStreamer's bindings: ``rtsp_camera.py PORT``. It
imports nothing of this repository. The picture is 16 columns, black or white: the bits of the
monotonic clock in milliseconds.
"""

from __future__ import annotations

import sys
import time

WIDTH, HEIGHT, BITS = 320, 240, 16
FPS = 25


def picture(now_ms: int) -> bytes:
    """One grey picture, (HEIGHT, WIDTH) bytes, with the lowest bit on the right."""
    column = WIDTH // BITS
    levels = [235 if now_ms >> bit & 1 else 16 for bit in reversed(range(BITS))]
    line = b"".join(bytes([level]) * column for level in levels)
    return line * HEIGHT


def main(port: str) -> None:
    """Serve rtsp://127.0.0.1:PORT/cam until killed."""
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    caps = f"video/x-raw,format=GRAY8,width={WIDTH},height={HEIGHT},framerate={FPS}/1"
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        f"( appsrc name=camera is-live=true format=time do-timestamp=true caps={caps} "
        "! videoconvert ! video/x-raw,format=I420 "
        "! x264enc tune=zerolatency key-int-max=25 bitrate=1000 "
        "! rtph264pay name=pay0 pt=96 config-interval=-1 )"
    )
    factory.set_shared(True)

    def feed(_factory: object, media: object) -> None:
        source = media.get_element().get_by_name("camera")

        def push() -> bool:
            data = picture(int(time.monotonic() * 1e3))
            flow = source.emit("push-buffer", Gst.Buffer.new_wrapped(data))
            return flow == Gst.FlowReturn.OK

        GLib.timeout_add(1000 // FPS, push)

    factory.connect("media-configure", feed)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    server.get_mount_points().add_factory("/cam", factory)
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main(sys.argv[1])
