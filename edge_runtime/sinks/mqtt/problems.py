"""What the log says when a broker cannot be reached or refuses us: the cause, and the key to
change.

Each text follows the broker's address, as in ``pi.local:1883 does not answer ...``.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from edge_runtime.config import MqttConfig
from edge_runtime.errors import one_line

# Codes of OpenSSL, <openssl/x509_vfy.h>.
_NOT_VALID_TODAY = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, _CERT_HAS_EXPIRED
_WRONG_NAME = (62, 63, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, _EMAIL_MISMATCH, _IP_ADDRESS_MISMATCH


def refusal(reason: str, config: MqttConfig) -> str:
    """The broker answered, and the answer is no."""
    if "identifier" in reason.lower():
        return f"refuses us: {reason}; change mqtt.device"
    if config.credentials_file:
        return f"refuses us: {reason}; check user and password in mqtt.credentials_file"
    return f"refuses us: {reason}; it may want a user and password: set mqtt.credentials_file"


def no_answer(config: MqttConfig) -> str:
    """The connection stood, and ended before a broker spoke on it."""
    if config.tls:
        return (
            "ends the connection before it answers; it may want a certificate of ours: "
            "set mqtt.cert_file and mqtt.key_file, or check mqtt.port"
        )
    return (
        "ends the connection before it answers: there is no MQTT broker at that port, or one that "
        "wants TLS; check mqtt.port, or set mqtt.tls: true"
    )


def unreachable(error: BaseException | None, config: MqttConfig) -> str:
    """There was no connection at all."""
    import ssl  # paho has imported it

    if isinstance(error, ssl.SSLCertVerificationError):
        return _untrusted(error, config)
    if isinstance(error, socket.gaierror):
        return "is not known by that name (DNS); check mqtt.host and this machine's name server"
    if isinstance(error, TimeoutError) and "handshake" in str(error):
        return (
            "does not answer in TLS; check mqtt.port (8883 is usual with TLS), "
            "or set mqtt.tls: false"
        )
    if isinstance(error, TimeoutError):
        return (
            "does not answer in time; check mqtt.host, mqtt.port, and firewalls between here "
            "and there"
        )
    if isinstance(error, ConnectionRefusedError):
        return (
            "does not answer: nothing listens at that port; check mqtt.host and mqtt.port, "
            "and that the broker runs"
        )

    reason = "no reason given" if error is None else one_line(error)
    if isinstance(error, ssl.SSLError | ConnectionResetError | BrokenPipeError) and config.tls:
        return (
            f"does not answer in TLS ({reason}); the port may be one without TLS: "
            "check mqtt.port (8883 is usual with TLS), or set mqtt.tls: false"
        )
    if isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return f"cannot be reached: {reason}; check mqtt.host and this machine's network"
    return f"does not answer: {reason}; check mqtt.host and mqtt.port"


def _untrusted(error: Any, config: MqttConfig) -> str:
    """OpenSSL does not accept the certificate. ``error``: an ssl.SSLCertVerificationError."""
    reason = error.verify_message
    if error.verify_code in _WRONG_NAME:
        return (
            f"has a certificate for another name than {config.host}; set mqtt.host to the name in "
            "the certificate (openssl x509 -noout -ext subjectAltName shows it)"
        )
    if error.verify_code in _NOT_VALID_TODAY:
        return (
            f"has a certificate that is not valid today ({reason}); renew it, or set the clock here"
        )
    if config.ca_file:
        return (
            f"has a certificate that mqtt.ca_file has not signed ({reason}); give the CA that did"
        )
    return (
        f"has a certificate that nobody known here has signed ({reason}); set mqtt.ca_file to the "
        "CA that did, or to the certificate itself where it is self-signed"
    )
