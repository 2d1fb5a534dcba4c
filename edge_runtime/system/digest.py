"""What OpenSSL is not needed for: ``hashlib`` and ``hmac`` map libcrypto, 3.7 MB of the daemon's memory, for this."""

from __future__ import annotations

try:
    from _sha2 import sha256 as _sha256  # type: ignore[import-not-found]  # CPython's own, from 3.12
except ImportError:
    try:
        from _sha256 import sha256 as _sha256  # type: ignore[import-not-found]  # CPython's own, 3.11
    except ImportError:
        from hashlib import sha256 as _sha256

# What hmac.compare_digest is where there is no OpenSSL. Its time depends on the lengths alone, not on how many
# characters of a guess are right, so a token cannot be found letter by letter.
try:
    from _operator import _compare_digest as _same
except ImportError:
    from hmac import compare_digest as _same  # type: ignore[no-redef]


def same_bytes(given: bytes, secret: bytes) -> bool:
    """Whether both are equal, in constant time: for tokens."""
    return _same(given, secret)


def sha256_hex(*parts: bytes) -> str:
    """SHA-256 of the parts one after the other, 64 hexadecimal digits."""
    state = _sha256()
    for part in parts:
        state.update(part)
    return str(state.hexdigest())
