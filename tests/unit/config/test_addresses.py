"""An address in the configuration is one that can be used, and the error says what to write."""

from __future__ import annotations

import pytest

from edge_runtime.config.addresses import check_host, check_listen, parse_listen, plain_name


@pytest.mark.parametrize("host", ["broker", "broker.example.org", "10.0.0.7", "::1", "fe80::1"])
def test_names_and_addresses_are_hosts(host: str):
    check_host("mqtt.host", host)


@pytest.mark.parametrize(
    ("host", "advice"),
    [
        ("mqtt://broker", "write host: broker"),
        ("broker:1883", "write host: broker, port: 1883"),
        ("[::1]:1883", "write host: ::1, port: 1883"),
        ("mqtts://broker:8883/x", "write host: broker, port: 8883, tls: true"),
        ("u:hunter2@broker", "write host: broker, user and password into credentials_file"),
        ("two words", "cannot be the name of a host"),
        ("a" * 64, "cannot be the name of a host"),
    ],
)
def test_anything_else_is_refused_with_what_to_write(host: str, advice: str):
    with pytest.raises(ValueError, match=r"^mqtt\.host") as caught:
        check_host("mqtt.host", host)
    assert advice in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("listen", ["0.0.0.0:80", "[::]:80", "10.0.0.7:80"])
def test_only_the_loopback_goes_without_a_token(listen: str):
    check_listen("preview", listen, "/etc/token")
    check_listen("preview", "localhost:80", None)
    with pytest.raises(ValueError, match=r"preview\.token_file"):
        check_listen("preview", listen, None)


@pytest.mark.parametrize("listen", ["80", "host:80", "::1:80", "[127.0.0.1]:80", "127.0.0.1:x"])
def test_what_is_no_address_and_port_is_refused(listen: str):
    with pytest.raises(ValueError, match="is not ADDRESS:PORT"):
        parse_listen(listen)


def test_a_plain_name_is_safe_in_topics_files_and_urls():
    assert plain_name("Küche / 2") == "K-che-2"
    assert plain_name("///") == ""
