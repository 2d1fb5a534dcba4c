"""SHA-256 without OpenSSL: ``hashlib`` maps libcrypto, 3.7 MB of the daemon's memory, for this one function."""

from __future__ import annotations

try:
    from _sha2 import sha256 as _sha256  # type: ignore[import-not-found]  # CPython's own, from 3.12
except ImportError:
    try:
        from _sha256 import sha256 as _sha256  # type: ignore[import-not-found]  # CPython's own, 3.11
    except ImportError:
        from hashlib import sha256 as _sha256


def sha256_hex(*parts: bytes) -> str:
    """SHA-256 of the parts one after the other, 64 hexadecimal digits."""
    state = _sha256()
    for part in parts:
        state.update(part)
    return str(state.hexdigest())
