"""SHA-256 and a comparison in constant time, without OpenSSL.

``hashlib`` and ``hmac`` import OpenSSL's libcrypto, 3.6 MB at import (docs/decisions/017). What is
used here is in CPython itself.
"""

from __future__ import annotations

try:
    from _sha2 import sha256 as _sha256  # type: ignore[import-not-found]  # CPython from 3.12 on
except ImportError:
    try:
        from _sha256 import sha256 as _sha256  # type: ignore[import-not-found]  # CPython 3.11
    except ImportError:
        from hashlib import sha256 as _sha256

# hmac.compare_digest is this function where there is no OpenSSL. Its time depends on the lengths
# alone, not on how many characters of a guess are right, so nobody finds a token letter by letter.
try:
    from _operator import _compare_digest
except ImportError:
    from hmac import compare_digest as _compare_digest  # type: ignore[no-redef]


def same_bytes(guess: bytes, secret: bytes) -> bool:
    """Whether both are equal, in constant time: for tokens."""
    return _compare_digest(guess, secret)


def sha256_hex(*parts: bytes) -> str:
    """SHA-256 of the parts one after the other, 64 hexadecimal digits."""
    state = _sha256()
    for part in parts:
        state.update(part)
    return str(state.hexdigest())
