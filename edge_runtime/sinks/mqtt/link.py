"""The connection to an MQTT broker: made, lost, made again, and what the log says of it.

paho-mqtt runs the network in a thread of its own. Its callbacks are the only code here that runs in that thread. What
they hear goes to the sink's thread through ``found`` and ``connections``, each written by one side only.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_runtime.config import MqttConfig
from edge_runtime.errors import ConfigError, one_line
from edge_runtime.secrecy import shown, shown_file

log = logging.getLogger("edge_label.mqtt")

BACKOFF_MAX_S = 30
KEEPALIVE_S = 30
CONNECT_TIMEOUT_S = 5.0
QUICK_S = 10.0  # a connection that is lost so soon after it was made
QUICK_LOSSES = 3  # in a row: somebody takes it from us
CONTESTED_S = 60  # between two attempts, then
STEADY_S = 600.0  # a connection that held so long is ours again
MAX_CREDENTIALS = 4096  # bytes

_QUEUE_FULL = 15  # paho's MQTT_ERR_QUEUE_SIZE


class Link:
    """One broker. Raises ConfigError when paho-mqtt, the credentials or the certificates are missing or wrong.

    ``will`` is (topic, payload), published by the broker when we vanish. ``ask`` are topics to hear retained messages
    of, once, after the first connection.
    """

    def __init__(self, config: MqttConfig, will: tuple[str, str], ask: Sequence[str]) -> None:
        self._config = config
        self._client_id = f"edge-label-{config.device}"
        self._port = config.port or (8883 if config.tls else 1883)
        self._broker = shown(f"{config.host}:{self._port}")
        self._ask = list(ask)
        self._client = self._make_client(will)
        self._started = False

        # Written by paho's thread, read by the sink's.
        self.connections = 0
        self.found: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()

        # Of paho's thread alone.
        self._asked = False
        self._answered = False
        self._accepted_s: float | None = None
        self._quick_losses = 0
        self._contested = False
        self._complaint = ""

    def _make_client(self, will: tuple[str, str]) -> Any:
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError:
            raise ConfigError(
                "mqtt: paho-mqtt is not installed", "pip install 'edge-label[mqtt]'"
            ) from None

        class LastingClient(Client):  # type: ignore[misc]  # an extra, which mypy does not see
            """paho's thread survives an OSError of a connection attempt, and dies of anything else."""

            def reconnect(self) -> Any:
                try:
                    return super().reconnect()
                except OSError:
                    raise
                except Exception as error:  # such as a name that cannot be looked up
                    raise OSError(one_line(error)) from error

        config = self._config
        client = LastingClient(CallbackAPIVersion.VERSION2, client_id=self._client_id)
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.reconnect_delay_set(1, BACKOFF_MAX_S)
        client.max_queued_messages_set(config.queue)
        client.will_set(*will, qos=1, retain=True)
        if config.credentials_file:
            client.username_pw_set(*read_credentials(Path(config.credentials_file)))
        if config.tls:
            _use_tls(client, config)
        client.on_pre_connect = self._on_pre_connect
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        return client

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us."""
        return self.connections > 0 and bool(self._client.is_connected())

    def start(self) -> None:
        """Connect, and keep on trying. A second call does nothing."""
        if not self._started:
            self._started = True
            self._client.connect_async(self._config.host, self._port, KEEPALIVE_S)
            self._client.loop_start()

    def publish(self, topic: str, payload: str) -> Any:
        """Queue one retained message. Raises BlockingIOError when the queue to a slow broker is full."""
        info = self._client.publish(topic, payload, qos=1, retain=True)
        if info.rc == _QUEUE_FULL:
            raise BlockingIOError(
                f"{self._broker} is slow, its queue of {self._config.queue} messages is full"
            )
        return info

    def stop_asking(self) -> None:
        """What was retained has been heard by now; what comes on these topics from here on is our own."""
        if self._ask:
            self._client.unsubscribe(self._ask)
            self._ask = []

    def publish_last(self, messages: Sequence[tuple[str, str]], timeout_s: float) -> bool:
        """Publish retained messages and wait until the broker has them; False when that takes too long."""
        deadline = time.monotonic() + timeout_s
        info: Any = None
        for topic, payload in messages:
            try:
                info = self.publish(topic, payload)
            except BlockingIOError:
                if not _arrived(info, deadline):
                    return False
                info = self._client.publish(topic, payload, qos=1, retain=True)
        return _arrived(info, deadline)

    def close(self) -> None:
        """Part in peace: the broker keeps the will to itself."""
        self._client.disconnect()

    def _on_pre_connect(self, client: Any, userdata: Any) -> None:
        self._answered = False
        self._accepted_s = None

    def _on_connect(
        self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        self._answered = True
        if reason.is_failure:
            self._complain(_refusal(str(reason), self._config))
            return
        self._accepted_s = time.monotonic()
        self._complaint = ""
        if not self._contested:
            below = f"{self._config.topic}/{self._config.device}"
            log.info("mqtt: connected to %s, publishing below %s", self._broker, below)
        if self._ask and not self._asked:
            self._asked = True
            client.subscribe([(topic, 0) for topic in self._ask])
        self.connections += 1  # last: what the sink publishes now comes after the question for what was there before

    def _on_connect_fail(self, client: Any, userdata: Any) -> None:
        self._complain(
            _unreachable(sys.exc_info()[1], self._config)
        )  # paho calls this while it handles the exception

    def _on_disconnect(
        self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        if not reason.is_failure:
            return
        if self._accepted_s is None:
            if not self._answered:
                self._complain(_no_answer(self._config))
            return

        lasted_s = time.monotonic() - self._accepted_s
        self._quick_losses = self._quick_losses + 1 if lasted_s < QUICK_S else 0
        if self._contested and lasted_s > STEADY_S:
            self._contested = False
            client.reconnect_delay_set(1, BACKOFF_MAX_S)
        if self._contested:
            return
        if self._quick_losses < QUICK_LOSSES:
            self._complain("has closed the connection")
            return
        self._contested = True
        client.reconnect_delay_set(CONTESTED_S, CONTESTED_S)
        log.warning(
            "mqtt: %s has closed the connection %d times in a row, each time within %d s: another program uses the "
            "same name, so each ends the other's connection; give each its own mqtt.device (here it is %s); trying "
            "again only every %d s",
            self._broker,
            QUICK_LOSSES,
            QUICK_S,
            self._config.device,
            CONTESTED_S,
        )

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        if message.retain and message.payload:
            self.found.put((message.topic, message.payload))

    def _complain(self, what: str) -> None:
        """One line a change, not one a retry."""
        if what != self._complaint:
            self._complaint = what
            log.warning(
                "mqtt: %s %s; trying again, at least every %d s", self._broker, what, BACKOFF_MAX_S
            )


def _arrived(info: Any, deadline_s: float) -> bool:
    """Whether the broker has confirmed a message, and so all before it."""
    if info is None:
        return True
    try:
        info.wait_for_publish(max(0.0, deadline_s - time.monotonic()))
    except (RuntimeError, ValueError):  # the connection went, or the queue was full
        return False
    return bool(info.is_published())


def _use_tls(client: Any, config: MqttConfig) -> None:
    for key in ("ca_file", "cert_file", "key_file"):  # the library does not say which
        path = getattr(config, key)
        if path and ("\0" in path or not os.access(path, os.R_OK)):
            raise ConfigError(
                f"mqtt.{key}: {shown_file(path)} is not there, or may not be read",
                "check path and rights",
            )
    try:
        client.tls_set(config.ca_file, config.cert_file, config.key_file)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"mqtt: a certificate file cannot be used: {error}", "check ca_file, cert_file"
        ) from None


def _refusal(reason: str, config: MqttConfig) -> str:
    """What is said when a broker answers, and the answer is no."""
    if "identifier" in reason.lower():
        return f"refuses us: {reason}; change mqtt.device"
    if config.credentials_file:
        return f"refuses us: {reason}; check user and password in mqtt.credentials_file"
    return f"refuses us: {reason}; it may want a user and password: set mqtt.credentials_file"


def _no_answer(config: MqttConfig) -> str:
    """What is said when a connection stands, and no broker speaks on it."""
    if config.tls:
        return (
            "ends the connection before it answers; it may want a certificate of ours: set mqtt.cert_file and "
            "mqtt.key_file, or check mqtt.port"
        )
    return (
        "ends the connection before it answers: there is no MQTT broker at that port, or one that wants TLS; check "
        "mqtt.port, or set mqtt.tls: true"
    )


def _unreachable(error: BaseException | None, config: MqttConfig) -> str:
    """What is said when no connection comes about: the cause, and the key to change."""
    import ssl  # paho has imported it

    if isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(error, config)
    if isinstance(error, socket.gaierror):
        return (
            "is not known by that name (DNS); check mqtt.host, and the name server of this machine"
        )
    if isinstance(error, TimeoutError) and "handshake" in str(error):
        return "does not answer in TLS; check mqtt.port (8883 is usual with TLS), or set mqtt.tls: false"
    if isinstance(error, TimeoutError):
        return "does not answer in time; check mqtt.host, mqtt.port, and firewalls between here and there"
    if isinstance(error, ConnectionRefusedError):
        return "does not answer: nothing listens at that port; check mqtt.host and mqtt.port, and that the broker runs"
    if isinstance(error, ssl.SSLError | ConnectionResetError | BrokenPipeError) and config.tls:
        return (
            f"does not answer in TLS ({_short(error)}); the port may be one without TLS: check mqtt.port (8883 is "
            "usual with TLS), or set mqtt.tls: false"
        )
    if isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return (
            f"cannot be reached: {_short(error)}; check mqtt.host and the network of this machine"
        )
    return f"does not answer: {_short(error)}; check mqtt.host and mqtt.port"


def _untrusted(error: Any, config: MqttConfig) -> str:
    """What is said of a certificate that OpenSSL does not accept. The numbers are its X509_V_ERR codes."""
    code = error.verify_code
    if code in (62, 63, 64):
        return (
            f"has a certificate for another name than {config.host}; set mqtt.host to the name in the certificate "
            "(openssl x509 -noout -ext subjectAltName shows it)"
        )
    if code in (9, 10):
        return f"has a certificate that is not valid today ({error.verify_message}); renew it, or set the clock here"
    if config.ca_file:
        return f"has a certificate that mqtt.ca_file has not signed ({error.verify_message}); give the CA that did"
    return (
        f"has a certificate that nobody known here has signed ({error.verify_message}); set mqtt.ca_file to the CA "
        "that did, or to the certificate itself where it is self-signed"
    )


def _short(error: BaseException | None) -> str:
    return "no reason given" if error is None else one_line(error)


def read_credentials(path: Path) -> tuple[str, str]:
    """(user, password) from a file of one line, ``user:password``. Raises ConfigError.

    What editors add is not part of the password: a byte order mark, spaces and ends of line around it.
    """
    try:
        mode = path.stat().st_mode
        if mode & 0o007:
            raise ConfigError(
                f"{path}: every user may read this password",
                "chmod 640 it, group video for the service",
            )
        if not path.is_file():
            raise ConfigError(f"{path}: must be a file of one line, user:password")
        with path.open("rb") as stream:
            text = stream.read(MAX_CREDENTIALS).decode("utf-8-sig").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None)
        if isinstance(error, UnicodeDecodeError):
            reason = "not UTF-8"
        advice = "; the service's group is video" if isinstance(error, PermissionError) else ""
        raise ConfigError(
            f"{shown_file(str(path))}: cannot read mqtt credentials: {reason or error}{advice}"
        ) from None
    user, colon, password = text.partition(":")
    if not colon or not user or "\n" in password:
        raise ConfigError(f"{path}: must be one line, user:password")
    return user, password
