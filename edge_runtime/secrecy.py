"""Keeps passwords inside the process: masks them in text, and closes the process to debuggers.

``shown`` masks one address, ``masked`` a line of text that may hold addresses. Both hide too much
rather than too little: of an address that they cannot parse they show the scheme only. All text
that leaves the program goes through one of them: records, logs, errors, the doctor, reports, and
the program's own argument list.
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
_EXEC = "exec:"
_WORD = re.compile(r"""((?:"[^"]*"|'[^']*'|\S)+)""")
_HOST = re.compile(r"(?:\[[\w:.%]+\]|[\w.-]*)(?::\d{1,5})?")

# Parts of names with a secret value. A user's name is one: some cameras take a bare token there.
_SECRET = re.compile(
    r"pas|pw|psw|token|key|auth|secret|cred|user|usr|login|session|sig", re.IGNORECASE
)
_HARMLESS = re.compile(
    r"(?:ch|chn|channel|cam|camera|stream|subtype|track)=?\d{1,3}(?:\.sdp)?", re.IGNORECASE
)
_SEPARATOR = re.compile(r"([/?&;#_,]+)")
_MANY_HIDDEN = re.compile(r"\*\*\*(?:[/?&;#_,]+\*\*\*)+")

# Every pattern below is bounded or anchored: a long line from a stranger must not take seconds.
_STARTS_ADDRESS = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]{{0,20}}://|\b{_KNOWN}:[/\\]", re.IGNORECASE)
_NAME_OF_VALUE = re.compile(r"[\w-]{1,80}=")
_SECRET_NAME = re.compile(r"pass|pwd|token|key|auth|secret", re.IGNORECASE)
_PUNCTUATION = ":;,.)]}'\""


def shown(source: str) -> str:
    """A camera's source without its password. A device or a path is shown completely.

    >>> shown("exec:grab --token hunter2 --size 640")
    'exec:grab --token *** --size 640'
    >>> shown("rtsp://admin:hunter2@10.0.0.7/user=admin_password=hunter2_channel=1")
    'rtsp://***@10.0.0.7/user=***_password=***_channel=1'
    """
    if source.startswith(_EXEC):
        return _EXEC + _shown_command(source.removeprefix(_EXEC))

    address = _ADDRESS.fullmatch(source)
    if address:
        return f"{address[1]}://{_shown_location(address[2])}"

    mistyped = _MISTYPED.match(source)
    if mistyped:
        return f"{mistyped[1] or mistyped[2]}:{HIDDEN}"

    # An address whose scheme was forgotten.
    is_path = source.startswith(("/", ".")) and not source.startswith("//")
    if _secret_value(source) is not None or (_has_user(source) and not is_path):
        return HIDDEN
    return source


def _shown_command(command: str) -> str:
    """A command line without its addresses' passwords and the values of its secret options."""
    pieces = []
    is_value = False  # of a secret option
    for piece in _WORD.split(command):
        if not piece or piece.isspace():
            pieces.append(piece)
            continue

        shown_piece = masked(piece)
        has_spaces = shown_piece != piece and " " in piece  # then only a part may be masked
        pieces.append(HIDDEN if is_value or has_spaces else shown_piece)
        is_value = shown_piece == piece and holds_secret(piece)
    return "".join(pieces)


def _shown_location(location: str) -> str:
    """Host, port and path of what follows ``://``."""
    authority, path = _split(location)
    user, at, host = authority.rpartition("@")

    if "@" in path:
        # An @ after a slash belongs to the password or to the path. It is surely the password's
        # only where the part before the slash cannot be a host.
        if at or _HOST.fullmatch(authority) or path.count("@") > 1:
            return HIDDEN
        user, at, rest = path.partition("@")
        host, path = _split(rest)

    if not _HOST.fullmatch(host):
        return HIDDEN
    return f"{HIDDEN if user else ''}{at}{host}{_shown_path(path)}"


def _split(location: str) -> tuple[str, str]:
    """Text before the first slash, question mark or number sign, and the rest."""
    authority = re.split(r"[/\\?#]", location, maxsplit=1)[0]
    return authority, location[len(authority) :]


def _shown_path(path: str) -> str:
    """Path and query without secret values.

    What follows a secret value may be part of it, so it is hidden too.
    """
    pieces = []
    hiding = False
    for piece in _SEPARATOR.split(path):
        if not piece or _SEPARATOR.fullmatch(piece):
            pieces.append(piece)
        elif _SECRET.search(piece) or _looks_random(piece):
            hiding = True
            name = re.match(r"[A-Za-z]{1,20}=", piece)
            pieces.append(f"{name[0] if name else ''}{HIDDEN}")
        elif hiding and not _HARMLESS.fullmatch(piece):
            pieces.append(HIDDEN)
        else:
            pieces.append(piece)
    return _MANY_HIDDEN.sub(HIDDEN, "".join(pieces))


def _looks_random(piece: str) -> bool:
    """Whether a piece looks like a key. The path of a stream is often its only password."""
    for word in re.findall(r"[A-Za-z0-9]{12,}", piece):
        is_mixed = (
            any(map(str.isdigit, word))
            and any(map(str.islower, word))
            and any(map(str.isupper, word))
        )
        is_hexadecimal = len(word) >= 16 and re.fullmatch(r"[0-9a-f]+", word)
        if is_mixed or is_hexadecimal:
            return True
    return False


def masked(text: str) -> str:
    """A line of text in which addresses are as ``shown`` and the values of secret names hidden."""
    return re.sub(r"\S+", lambda word: _masked_word(word[0]), text)


def _masked_word(word: str) -> str:
    start = _STARTS_ADDRESS.search(word)
    if start:
        before = word[: start.start()]
        address = word[start.start() :].rstrip(_PUNCTUATION)
        after = word[len(before) + len(address) :]
        return _masked_word(before) + shown(address) + after

    value_start = _secret_value(word)
    if value_start is not None:
        end = len(word.rstrip(_PUNCTUATION))
        return word[:value_start] + HIDDEN + word[end:]

    if _has_user(word):
        user_start = 1 + max(word.rfind(sign, 0, word.index(":")) for sign in "/'\"(")
        host = word.rpartition("@")[2]
        return f"{word[:user_start]}{HIDDEN}@{host}"

    return word


def _secret_value(word: str) -> int | None:
    """Index where the value of a secret name begins, as in ``password=x``; None without one."""
    for name in _NAME_OF_VALUE.finditer(word):
        if _SECRET_NAME.search(name[0]):
            return name.end()
    return None


def _has_user(word: str) -> bool:
    """Whether the word holds ``user:password@`` without a scheme before it."""
    return ":" in word.rpartition("@")[0]


def holds_secret(argument: str) -> bool:
    """Whether an argument is a secret, or an option whose value is one.

    Examples: ``--password=x``, ``--api-key``, an address with a password.
    """
    is_option = re.fullmatch(
        r"-+[\w-]*(?:pass|passwd|password|pwd|token|key|auth|secret)", argument, re.IGNORECASE
    )
    return bool(is_option) or masked(argument) != argument


def secret_warning(command: Sequence[str]) -> str:
    """What to warn of where an argument of ``command`` is a secret; empty where none is."""
    if not any(holds_secret(argument) for argument in command[1:]):
        return ""
    return (
        "one of its arguments is a password, which every user can see with ps; "
        "let the program read it from a file"
    )


def shown_file(path: str) -> str:
    """The name of a file that holds a secret. People write the secret itself there by mistake."""
    is_path = path.startswith(("/", "./", "../", "~")) or os.path.lexists(path)
    return path if is_path else f"{HIDDEN} (no file of this name)"


def hide_arguments(arguments: Sequence[str]) -> None:
    """Overwrite secrets in this process's argument list, which every user can read with ``ps``.

    ``arguments`` are the last arguments of the list. Between the start of Python and this call
    they can be seen.
    """
    safe = [_shown_argument(argument) for argument in arguments]
    if safe == list(arguments):
        return
    try:
        _overwrite_arguments(safe)
    except (OSError, ValueError, IndexError):
        # A kernel that forbids it. docs/deploy.md says where passwords belong.
        pass


def _overwrite_arguments(arguments: Sequence[str]) -> None:
    """Write ``arguments`` over the last ones of this process's argument list, at equal lengths."""
    # arg_start and arg_end in proc_pid_stat(5). The command's name may hold spaces and brackets.
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start = int(fields[45])
    end = int(fields[46])

    with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
        memory.seek(start)
        words = memory.read(end - start).split(b"\0")[:-1]
        first = len(words) - len(arguments)
        for i, (argument, word) in enumerate(zip(arguments, words[first:], strict=True), first):
            words[i] = os.fsencode(argument)[: len(word)].ljust(len(word), b"\0")

        memory.seek(start)
        memory.write(b"\0".join(words))


def _shown_argument(argument: str) -> str:
    option, equals, value = argument.partition("=")
    return f"{option}={shown(value)}" if equals and option.startswith("--") else shown(argument)


def forbid_looking_in() -> None:
    """Forbid core dumps of this process, and debuggers of the same user: memory holds the secrets.

    Only for a process with secrets: its own user can then no longer see which camera it holds.
    """
    import ctypes

    hard_limit = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard_limit))

    # A core limit of 0 is not enough: the kernel still starts a program that it pipes dumps to,
    # such as apport.
    pr_set_dumpable = 4  # linux/prctl.h
    ctypes.CDLL(None).prctl(pr_set_dumpable, 0, 0, 0, 0)
