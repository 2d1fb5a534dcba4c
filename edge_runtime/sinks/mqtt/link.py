"""The connection to an MQTT broker: made, lost, made again, and what the log says about it.

paho-mqtt runs the network in a thread of its own. Its callbacks are the only code here that runs in
that thread. What they hear goes to the sink's thread through ``retained`` and ``connections``, each
written by one side only.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_runtime.config import MqttConfig
from edge_runtime.errors import ConfigError, one_line
from edge_runtime.secrecy import shown, shown_file
from edge_runtime.sinks.mqtt.credentials import read_credentials
from edge_runtime.sinks.mqtt.problems import no_answer, refusal, unreachable

log = logging.getLogger("edge_label.mqtt")

BACKOFF_MAX_S = 30
KEEPALIVE_S = 30
CONNECT_TIMEOUT_S = 5.0
# A broker ends a connection when another client of the same name connects. Two programs of one name
# would so throw each other out every second. After three quick losses we wait longer.
QUICK_S = 10.0  # a connection that lasted no longer was lost quickly
QUICK_LOSSES = 3  # in a row
CONTESTED_S = 60  # between two attempts, then
STEADY_S = 600.0  # a connection that lasted so long ends that

_QUEUE_FULL = 15  # paho's MQTT_ERR_QUEUE_SIZE


class Link:
    """One broker.

    ``will`` is (topic, payload), which the broker publishes when we vanish. ``ask`` are topics
    whose retained messages we want to hear, once, after the first connection.

    Raises ConfigError when paho-mqtt, the credentials or the certificates are missing or wrong.
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
        self.retained: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()

        # Used by paho's thread alone.
        self._asked = False
        self._answered = False
        self._accepted_s: float | None = None
        self._quick_losses = 0
        self._contested = False
        self._complaint = ""

    def _make_client(self, will: tuple[str, str]) -> Any:
        config = self._config
        client = _lasting_client(self._client_id)
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.reconnect_delay_set(1, BACKOFF_MAX_S)
        client.max_queued_messages_set(config.queue)
        client.will_set(*will, qos=1, retain=True)
        if config.credentials_file:
            user, password = read_credentials(Path(config.credentials_file))
            client.username_pw_set(user, password)
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
        """Connect, and keep trying. A second call does nothing."""
        if not self._started:
            self._started = True
            self._client.connect_async(self._config.host, self._port, KEEPALIVE_S)
            self._client.loop_start()

    def publish(self, topic: str, payload: str | bytes) -> Any:
        """Queue one retained message. Raises BlockingIOError when the queue is full."""
        info = self._client.publish(topic, payload, qos=1, retain=True)
        if info.rc == _QUEUE_FULL:
            raise BlockingIOError(
                f"{self._broker} is slow, its queue of {self._config.queue} messages is full"
            )
        return info

    def stop_asking(self) -> None:
        """Stop hearing retained messages: what comes on these topics from now on is our own."""
        if self._ask:
            self._client.unsubscribe(self._ask)
            self._ask = []

    def publish_last(self, messages: Sequence[tuple[str, str]], timeout_s: float) -> bool:
        """Publish retained messages and wait for the broker; False if that takes too long."""
        deadline_s = time.monotonic() + timeout_s
        info: Any = None
        for topic, payload in messages:
            try:
                info = self.publish(topic, payload)
            except BlockingIOError:
                # Wait until the queue has gone out, then there is room.
                if not _arrived(info, deadline_s):
                    return False
                info = self._client.publish(topic, payload, qos=1, retain=True)
        return _arrived(info, deadline_s)

    def close(self) -> None:
        """Disconnect. The broker does not publish the will then."""
        self._client.disconnect()

    def _on_pre_connect(self, client: Any, userdata: Any) -> None:
        self._answered = False
        self._accepted_s = None

    def _on_connect(
        self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        self._answered = True
        if reason.is_failure:
            self._complain(refusal(str(reason), self._config))
            return

        self._accepted_s = time.monotonic()
        self._complaint = ""
        if not self._contested:
            below = f"{self._config.topic}/{self._config.device}"
            log.info("mqtt: connected to %s, publishing below %s", self._broker, below)
        if self._ask and not self._asked:
            self._asked = True
            client.subscribe([(topic, 0) for topic in self._ask])
        # Last: what the sink publishes must come after the question for what was there before.
        self.connections += 1

    def _on_connect_fail(self, client: Any, userdata: Any) -> None:
        # paho calls this while it handles the exception.
        self._complain(unreachable(sys.exc_info()[1], self._config))

    def _on_disconnect(
        self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        if not reason.is_failure:
            return
        if self._accepted_s is None:
            if not self._answered:
                self._complain(no_answer(self._config))
            return
        self._after_loss(client, time.monotonic() - self._accepted_s)

    def _after_loss(self, client: Any, lasted_s: float) -> None:
        """A connection was lost: find out whether another program of our name takes it from us."""
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
            "mqtt: %s has closed the connection %d times in a row, each time within %d s: "
            "another program uses the same name, so each ends the other's connection; "
            "give each its own mqtt.device (here it is %s); trying again only every %d s",
            self._broker,
            QUICK_LOSSES,
            QUICK_S,
            self._config.device,
            CONTESTED_S,
        )

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        if message.retain and message.payload:
            self.retained.put((message.topic, message.payload))

    def _complain(self, problem: str) -> None:
        """One line for each new problem, not for each attempt."""
        if problem != self._complaint:
            self._complaint = problem
            log.warning(
                "mqtt: %s %s; trying again, at least every %d s",
                self._broker,
                problem,
                BACKOFF_MAX_S,
            )


def _lasting_client(client_id: str) -> Any:
    """A client of paho whose thread survives every exception. Raises ConfigError without paho."""
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError as error:
        raise ConfigError(
            "mqtt: paho-mqtt is not installed", "pip install 'edge-label[mqtt]'"
        ) from error

    class LastingClient(Client):  # type: ignore[misc]  # an extra, which mypy does not see
        """paho's thread survives an OSError of a connection attempt, and dies of anything else."""

        def reconnect(self) -> Any:
            try:
                return super().reconnect()
            except OSError:
                raise
            except Exception as error:  # such as a name that cannot be looked up
                raise OSError(one_line(error)) from error

    return LastingClient(CallbackAPIVersion.VERSION2, client_id=client_id)


def _arrived(info: Any, deadline_s: float) -> bool:
    """Whether the broker has confirmed a message, and with it all before it."""
    if info is None:
        return True
    try:
        info.wait_for_publish(max(0.0, deadline_s - time.monotonic()))
    except (RuntimeError, ValueError):  # the connection went, or the queue was full
        return False
    return bool(info.is_published())


def _use_tls(client: Any, config: MqttConfig) -> None:
    # The library does not say which file is missing.
    for key in ("ca_file", "cert_file", "key_file"):
        path = getattr(config, key)
        if path and ("\0" in path or not os.access(path, os.R_OK)):
            raise ConfigError(
                f"mqtt.{key}: {shown_file(path)} is not there, or may not be read",
                "check path and rights",
            )
    try:
        client.tls_set(config.ca_file, config.cert_file, config.key_file)
    except (OSError, ValueError) as error:
        what = f"mqtt: a certificate file cannot be used: {error}"
        raise ConfigError(what, "check ca_file, cert_file") from error
