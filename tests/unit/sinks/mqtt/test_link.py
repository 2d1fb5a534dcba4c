"""Against a real Mosquitto with real certificates: a refusal names its cause and the key."""

from __future__ import annotations

import logging
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_runtime.config import Config, MqttConfig
from edge_runtime.errors import ConfigError
from edge_runtime.sinks.mqtt import link as mqtt_link
from edge_runtime.sinks.mqtt.sink import MqttSink
from edge_runtime.system import strict_yaml
from tests.commands import need
from tests.daemon import wait_until
from tests.doubles.mosquitto import Broker
from tests.doubles.ports import free_port
from tests.unit.sinks.mqtt.test_sink import NAMES, of


def openssl(folder: Path, command: str) -> None:
    subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, and certificates: for localhost, for another name, self-signed, expired."""
    need("openssl", "openssl")
    folder = tmp_path_factory.mktemp("certificates")
    new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    openssl(folder, f"{new} -keyout ca.key -out ca.pem -subj /CN=our-CA")
    openssl(
        folder,
        f"{new} -keyout self.key -out self.pem -subj /CN=localhost "
        "-addext subjectAltName=DNS:localhost",
    )
    for name, host, days in (
        ("good", "localhost", 2),
        ("wrong", "elsewhere.example", 2),
        ("expired", "localhost", -1),
    ):
        (folder / f"{name}.ext").write_text(f"subjectAltName=DNS:{host}\n")
        request = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
        openssl(folder, f"{request} -keyout {name}.key -out {name}.csr -subj /CN={host}")
        sign = "x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial"
        openssl(folder, f"{sign} -in {name}.csr -out {name}.pem -extfile {name}.ext -days {days}")
    return folder


@pytest.fixture(autouse=True)
def _programs():
    need("mosquitto", "mosquitto")


@contextmanager
def tls_broker(tmp_path: Path, certificates: Path, name: str, *settings: str) -> Iterator[Broker]:
    files = (f"certfile {certificates}/{name}.pem", f"keyfile {certificates}/{name}.key")
    with Broker(tmp_path, "allow_anonymous true", *files, *settings) as broker:
        yield broker


@contextmanager
def connecting(port: int, **settings: object) -> Iterator[MqttSink]:
    """A sink that tries; the configuration is one that a file could hold."""
    config = MqttConfig(**{"host": "localhost", "port": port, "device": "pi", **settings})
    sink = MqttSink(config)
    sink.write(of(None), NAMES)
    try:
        yield sink
    finally:
        sink.close()


def said(caplog: pytest.LogCaptureFixture, *words: str) -> str:
    """The one line that says what is wrong, once it is there; it holds all ``words``."""
    wait_until(lambda: caplog.messages)
    (line,) = caplog.messages
    for word in words:
        assert word in line
    assert "\n" not in line
    return line


@pytest.mark.fault("N8")
def test_a_self_signed_certificate_is_told_with_the_key_that_trusts_it(
    tmp_path, certificates, caplog
):
    with tls_broker(tmp_path, certificates, "self") as broker:
        with connecting(broker.port, tls=True):
            said(
                caplog, "nobody known here has signed (self-signed certificate)", "set mqtt.ca_file"
            )
        with connecting(broker.port, tls=True, ca_file=str(certificates / "self.pem")) as sink:
            wait_until(lambda: sink._link.connected)


@pytest.mark.fault("N8")
def test_a_certificate_of_another_ca_is_told(tmp_path, certificates, caplog):
    with (
        tls_broker(tmp_path, certificates, "good") as broker,
        connecting(broker.port, tls=True, ca_file=str(certificates / "self.pem")),
    ):
        said(caplog, "mqtt.ca_file has not signed", "give the CA that did")


@pytest.mark.fault("N8")
def test_the_right_ca_with_the_wrong_name_is_told(tmp_path, certificates, caplog):
    with (
        tls_broker(tmp_path, certificates, "wrong") as broker,
        connecting(broker.port, tls=True, ca_file=str(certificates / "ca.pem")),
    ):
        said(caplog, "certificate for another name than localhost", "set mqtt.host")


@pytest.mark.fault("N8")
def test_an_address_where_the_certificate_has_a_name_is_told(tmp_path, certificates, caplog):
    with (
        tls_broker(tmp_path, certificates, "good") as broker,
        connecting(broker.port, host="127.0.0.1", tls=True, ca_file=str(certificates / "ca.pem")),
    ):
        said(caplog, "certificate for another name than 127.0.0.1", "set mqtt.host")


@pytest.mark.fault("N8")
def test_an_expired_certificate_is_told_with_the_clock(tmp_path, certificates, caplog):
    with (
        tls_broker(tmp_path, certificates, "expired") as broker,
        connecting(broker.port, tls=True, ca_file=str(certificates / "ca.pem")),
    ):
        said(caplog, "not valid today (certificate has expired)", "set the clock")


@pytest.mark.fault("N8")
def test_tls_to_a_port_without_it_is_told(tmp_path, caplog):
    with Broker(tmp_path) as broker, connecting(broker.port, tls=True):
        said(caplog, "does not answer in TLS", "mqtt.port", "mqtt.tls: false")


@pytest.mark.fault("N8")
def test_no_tls_to_a_port_that_wants_it_is_told(tmp_path, certificates, caplog):
    with tls_broker(tmp_path, certificates, "good") as broker, connecting(broker.port):
        said(caplog, "ends the connection before it answers", "mqtt.tls: true")


@pytest.mark.fault("N8")
def test_a_certificate_that_the_broker_wants_of_us_is_told(tmp_path, certificates, caplog):
    wants = (f"cafile {certificates}/ca.pem", "require_certificate true")
    ours = {"tls": True, "ca_file": str(certificates / "ca.pem")}
    with tls_broker(tmp_path, certificates, "good", *wants) as broker:
        with connecting(broker.port, **ours):
            said(caplog, "mqtt.cert_file and mqtt.key_file")
        files = {
            "cert_file": str(certificates / "wrong.pem"),
            "key_file": str(certificates / "wrong.key"),
        }
        with connecting(broker.port, **ours, **files) as sink:
            wait_until(lambda: sink._link.connected)


@pytest.mark.fault("N8")
def test_a_name_that_dns_does_not_know_is_told(caplog):
    with connecting(free_port(), host="no-such-broker.invalid"):
        said(caplog, "no-such-broker.invalid", "is not known by that name (DNS)", "check mqtt.host")


@pytest.mark.fault("N8")
def test_a_closed_port_is_told(caplog):
    with connecting(free_port(), host="127.0.0.1"):
        said(caplog, "nothing listens at that port", "mqtt.port")


@pytest.mark.fault("N8")
@pytest.mark.parametrize(
    ("tls", "words"), [(True, "does not answer in TLS"), (False, "does not answer in time")]
)
def test_a_host_that_never_answers_is_told(tls, words, caplog, monkeypatch):
    monkeypatch.setattr(mqtt_link, "CONNECT_TIMEOUT_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        port = silent.getsockname()[1]
        fillers = [] if tls else [socket.socket() for _ in range(4)]
        for filler in fillers:  # a full backlog: the kernel answers nobody more
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        with connecting(port, host="127.0.0.1", tls=tls):
            said(caplog, words, "mqtt.port")
        for filler in fillers:
            filler.close()


@pytest.mark.fault("N8")
def test_something_that_is_no_broker_is_told(caplog):
    with (
        socket.create_server(("127.0.0.1", 0)) as web,
        connecting(web.getsockname()[1], host="127.0.0.1"),
    ):
        client, _ = web.accept()
        client.recv(100)
        client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        client.close()
        said(caplog, "no MQTT broker at that port", "check mqtt.port")


@pytest.mark.fault("N8")
def test_a_broker_that_wants_a_password_is_told_with_the_key(tmp_path, caplog):
    with Broker(tmp_path, "allow_anonymous false") as broker, connecting(broker.port):
        said(caplog, "refuses us", "set mqtt.credentials_file")


@pytest.mark.fault("N8")
def test_a_wrong_password_is_told_with_the_key_and_without_the_password(tmp_path, caplog):
    credentials = tmp_path / "credentials"
    credentials.touch(0o600)
    credentials.write_text("pi:very-secret\n")
    with (
        Broker(tmp_path, "allow_anonymous false") as broker,
        connecting(broker.port, credentials_file=str(credentials)),
    ):
        line = said(caplog, "refuses us", "check user and password in mqtt.credentials_file")
    assert "very-secret" not in line


def held_for(seconds: float, links: tuple[mqtt_link.Link, ...]) -> bool:
    """Whether nobody connected for so long, and one is connected."""
    made = sum(link.connections for link in links)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if sum(link.connections for link in links) != made:
            return False
        time.sleep(0.05)
    return any(link.connected for link in links)


def count(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return sum(words in message for message in caplog.messages)


@pytest.mark.fault("N9")
def test_two_programs_of_one_name_are_told_once_and_leave_each_other_alone(
    tmp_path, caplog, monkeypatch
):
    caplog.set_level(logging.INFO)
    with (
        Broker(tmp_path) as broker,
        connecting(broker.port) as one,
        connecting(broker.port) as other,
    ):
        links = (one._link, other._link)
        wait_until(lambda: any(link._contested for link in links))
        assert count(caplog, "another program uses the same name") >= 1
        assert count(caplog, "give each its own mqtt.device (here it is pi)") >= 1
        wait_until(lambda: any(link.connected for link in links))
        # It used to change every second.
        wait_until(lambda: held_for(3, links), what="a connection that holds")
        assert count(caplog, "another program uses the same name") <= 2


@pytest.mark.fault("N9")
def test_a_connection_that_holds_ends_the_quarrel(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(mqtt_link, "STEADY_S", 0.0)
    monkeypatch.setattr(mqtt_link, "CONTESTED_S", 1)
    with Broker(tmp_path) as broker, connecting(broker.port) as sink:
        for _ in range(mqtt_link.QUICK_LOSSES):
            wait_until(lambda: sink._link.connected)
            broker.stop()
            wait_until(lambda: not sink._link.connected)
            broker.start()
        assert sink._link._contested
        wait_until(lambda: sink._link.connected)
        monkeypatch.setattr(mqtt_link, "QUICK_S", 0.0)
        broker.stop()
        wait_until(lambda: not sink._link._contested)
        broker.start()
        wait_until(lambda: sink._link.connected)


@pytest.mark.fault("N10")
def test_what_ends_the_network_thread_of_the_library_is_told_and_tried_again(
    tmp_path, caplog, monkeypatch
):
    """It survives an OSError and nothing else: a name that IDNA refuses ended it silently."""
    create, tries = socket.create_connection, []

    def refuse_twice(*arguments: object, **more: object) -> socket.socket:
        tries.append(1)
        if len(tries) <= 2:
            raise UnicodeError("label too long")
        return create(*arguments, **more)

    with Broker(tmp_path) as broker:
        monkeypatch.setattr(socket, "create_connection", refuse_twice)
        with connecting(broker.port) as sink:
            said(caplog, "does not answer: label too long", "check mqtt.host")
            wait_until(lambda: sink._link.connected)


@pytest.mark.fault("N10")
@pytest.mark.parametrize(
    ("host", "problem"),
    [
        ("mqtt://broker.local", "write host: broker.local"),
        ("mqtt://broker.local:1884/", "write host: broker.local, port: 1884"),
        ("mqtts://broker.local:8883", "write host: broker.local, port: 8883, tls: true"),
        ("broker.local:1883", "write host: broker.local, port: 1883"),
        ("[::1]:1883", "write host: ::1, port: 1883"),
        ("[fe80::1]", "write host: fe80::1"),
        (
            "mqtt://pi:very-secret@broker:1883",
            "write host: broker, port: 1883, user and password into credentials_file",
        ),
        ("pi:very-secret@broker", "write host: broker, user and password into credentials_file"),
        ("broker.local/path", "cannot be the name of a host"),
        ("a" * 300, "cannot be the name of a host"),
        (".".join(["a" * 60] * 5), "cannot be the name of a host"),
        ("a..b", "cannot be the name of a host"),
        ("ümläut" * 20, "cannot be the name of a host"),
        ("\u2100.example/x", "cannot be the name of a host"),
        ("bro ker", "cannot be the name of a host"),
    ],
)
def test_a_host_that_is_none_is_explained(host: str, problem: str):
    with pytest.raises(ConfigError) as refused:
        strict_yaml.parse(f"mqtt: {{host: '{host}'}}", "x.yaml", Config)
    assert problem in str(refused.value)
    assert "very-secret" not in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.fault("N10")
@pytest.mark.parametrize("host", ['"a\\0b"', '"a\\nb"', '"\\ud800"'])
def test_a_host_with_bytes_that_no_name_has_is_refused(host: str):
    with pytest.raises(ConfigError):
        strict_yaml.parse(f"mqtt: {{host: {host}}}", "x.yaml", Config)


@pytest.mark.parametrize(
    "host",
    ["broker", "broker.local.", "192.168.1.2", "::1", "fe80::1%eth0", "büro.local", "my_broker"],
)
def test_a_host_that_is_one_is_taken(host: str):
    assert strict_yaml.parse(f"mqtt: {{host: '{host}'}}", "x.yaml", Config).mqtt.host == host


@pytest.mark.parametrize("key", ["device", "topic", "discovery_prefix"])
def test_a_name_longer_than_a_topic_may_be_is_refused(key: str):
    with pytest.raises(ConfigError, match=rf"mqtt\.{key} has 70000 characters; it may have 200"):
        strict_yaml.parse(f"mqtt: {{host: h, {key}: {'a' * 70_000}}}", "x.yaml", Config)


@pytest.mark.parametrize("key", ["ca_file", "cert_file", "key_file"])
def test_a_certificate_with_a_nul_in_its_name_is_one_line(key: str):
    with pytest.raises(ConfigError, match=rf"mqtt\.{key}: .* is not there"):
        MqttSink(MqttConfig(host="h", tls=True, **{key: "a\0b"}))
