"""Passwords stay inside: what may be shown of a camera's address, and a process that nobody can look into.

``shown`` takes one address, ``masked`` a line of text that may hold addresses. Both hide too much rather than too
little: of an address that they cannot take apart, they show the scheme only. Everything that leaves the program goes
through one of them: records, logs, errors, the doctor, reports, and the program's own argument list.
"""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Sequence
from pathlib import Path

HIDDEN = "***"

_ADDRESS = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_KNOWN = r"(?:rtsp|rtmp|http|mqtt|srt|udp|tcp|rtp|mms|ftp|ws)s?"
_MISTYPED = re.compile(
    rf"\s*({_KNOWN})(?:[:;]|[/\\]{{2}})|\s*([A-Za-z][A-Za-z0-9+.-]*):[/\\]", re.IGNORECASE
)
_HOST = re.compile(r"(?:\[[\w:.%]+\]|[\w.-]*)(?::\d{1,5})?")

# Parts of names whose value nobody else should know. A user's name is one: some cameras take a bare token there.
_SECRET = re.compile(
    r"pas|pw|psw|token|key|auth|secret|cred|user|usr|login|session|sig", re.IGNORECASE
)
_HARMLESS = re.compile(
    r"(?:ch|chn|channel|cam|camera|stream|subtype|track)=?\d{1,3}(?:\.sdp)?", re.IGNORECASE
)
_SEPARATOR = re.compile(r"([/?&;#_,]+)")
_MANY_HIDDEN = re.compile(r"\*\*\*(?:[/?&;#_,]+\*\*\*)+")

# Every pattern below is bounded or anchored: a line that a stranger made long must not take seconds.
_STARTS_ADDRESS = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]{{0,20}}://|\b{_KNOWN}:[/\\]", re.IGNORECASE)
_NAME_OF_VALUE = re.compile(r"[\w-]{1,80}=")
_SECRET_NAME = re.compile(r"pass|pwd|token|key|auth|secret", re.IGNORECASE)
_PUNCTUATION = ":;,.)]}'\""


def shown(source: str) -> str:
    """What may be shown of a camera's source: all of a device or a path, of an address no password.

    >>> shown("rtsp://admin:hunter2@10.0.0.7/user=admin_password=hunter2_channel=1")
    'rtsp://***@10.0.0.7/user=***_password=***_channel=1'
    """
    address = _ADDRESS.fullmatch(source)
    if address:
        return f"{address[1]}://{_shown_location(address[2])}"
    mistyped = _MISTYPED.match(source)
    if mistyped:
        return f"{mistyped[1] or mistyped[2]}:{HIDDEN}"
    is_path = source.startswith(("/", ".")) and not source.startswith("//")
    if _secret_value(source) is not None or (_has_user(source) and not is_path):
        return HIDDEN  # an address whose scheme was forgotten
    return source


def _shown_location(location: str) -> str:
    """Host, port and path of what follows ``://``."""
    authority, path = _split(location)
    user, at, host = authority.rpartition("@")
    if "@" in path:
        # An @ behind a slash: of the password, or of the path? Sure only where the front can be no host.
        if at or _HOST.fullmatch(authority) or path.count("@") > 1:
            return HIDDEN
        user, at, rest = path.partition("@")
        host, path = _split(rest)
    if not _HOST.fullmatch(host):
        return HIDDEN
    return f"{HIDDEN if user else ''}{at}{host}{_shown_path(path)}"


def _split(location: str) -> tuple[str, str]:
    """(all before the first slash, question mark or number sign; the rest)."""
    authority = re.split(r"[/\\?#]", location, maxsplit=1)[0]
    return authority, location[len(authority) :]


def _shown_path(path: str) -> str:
    """Path and query without secret values. What follows one may belong to it, so that is hidden as well."""
    pieces = []
    hiding = False
    for piece in _SEPARATOR.split(path):
        if not piece or _SEPARATOR.fullmatch(piece):
            pieces.append(piece)
        elif _SECRET.search(piece) or _is_drawn_by_lot(piece):
            hiding = True
            name = re.match(r"[A-Za-z]{1,20}=", piece)
            pieces.append(f"{name[0] if name else ''}{HIDDEN}")
        elif hiding and not _HARMLESS.fullmatch(piece):
            pieces.append(HIDDEN)
        else:
            pieces.append(piece)
    return _MANY_HIDDEN.sub(HIDDEN, "".join(pieces))


def _is_drawn_by_lot(piece: str) -> bool:
    """Whether a piece looks like a key, as the path of a stream often is: its only password."""
    for run in re.findall(r"[A-Za-z0-9]{12,}", piece):
        mixed = (
            any(map(str.isdigit, run)) and any(map(str.islower, run)) and any(map(str.isupper, run))
        )
        if mixed or (len(run) >= 16 and re.fullmatch(r"[0-9a-f]+", run)):
            return True
    return False


def masked(text: str) -> str:
    """A line of text with every address in it as ``shown`` would show it, and no value of a secret name."""
    return re.sub(r"\S+", lambda word: _masked_word(word[0]), text)


def _masked_word(word: str) -> str:
    address = _STARTS_ADDRESS.search(word)
    if address:
        found = word[address.start() :].rstrip(_PUNCTUATION)
        rest = word[address.start() + len(found) :]
        return _masked_word(word[: address.start()]) + shown(found) + rest
    value = _secret_value(word)
    if value is not None:
        return word[:value] + HIDDEN + word[len(word.rstrip(_PUNCTUATION)) :]
    if _has_user(word):
        start = max(word.rfind(sign, 0, word.index(":")) for sign in "/'\"(")
        return f"{word[: start + 1]}{HIDDEN}@{word.rpartition('@')[2]}"
    return word


def _secret_value(word: str) -> int | None:
    """Where the value of a secret name begins, as in ``password=x``."""
    for name in _NAME_OF_VALUE.finditer(word):
        if _SECRET_NAME.search(name[0]):
            return name.end()
    return None


def _has_user(word: str) -> bool:
    """``user:password@`` without a scheme before it."""
    return ":" in word.rpartition("@")[0]


def holds_secret(argument: str) -> bool:
    """Whether an argument is, or announces, a secret: ``--password=x``, ``--api-key``, an address with a password."""
    announces = re.fullmatch(
        r"-+[\w-]*(?:pass|passwd|password|pwd|token|key|auth|secret)", argument, re.IGNORECASE
    )
    return bool(announces) or masked(argument) != argument


def shown_file(path: str) -> str:
    """What may be shown of the name of a file with a secret: not the secret itself, which people write there too."""
    is_path = path.startswith(("/", "./", "../", "~")) or os.path.lexists(path)
    return path if is_path else f"{HIDDEN} (no file of this name)"


def hide_arguments(arguments: Sequence[str]) -> None:
    """Overwrite this process's argument list, which every user can read with ``ps``, where it holds a secret.

    ``arguments`` are the last ones of it. Between the start of Python and this call they can be seen.
    """
    safe = [_shown_argument(argument) for argument in arguments]
    if safe == list(arguments):
        return
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc_pid_stat(5)
        with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
            memory.seek(start)
            given = memory.read(end - start).split(b"\0")[:-1]
            kept = given[: len(given) - len(safe)]
            old = given[len(kept) :]
            new = [
                os.fsencode(text)[: len(was)].ljust(len(was), b"\0")
                for text, was in zip(safe, old, strict=True)
            ]
            memory.seek(start)
            memory.write(b"\0".join([*kept, *new]))
    except (
        OSError,
        ValueError,
        IndexError,
    ):  # a kernel that forbids it; docs/deploy.md says where passwords belong
        pass


def _shown_argument(argument: str) -> str:
    option, equals, value = argument.partition("=")
    return f"{option}={shown(value)}" if equals and option.startswith("--") else shown(argument)


def forbid_looking_in() -> None:
    """No core dump of this process, and no debugger of another one of the same user: memory holds the secrets.

    A core limit of 0 is not enough, because a program that the kernel pipes dumps to (apport) is started anyway. Not
    for every process: who holds a camera can then no more be told to its own user.
    """
    import ctypes

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    pr_set_dumpable = 4
    ctypes.CDLL(None).prctl(pr_set_dumpable, 0, 0, 0, 0)
