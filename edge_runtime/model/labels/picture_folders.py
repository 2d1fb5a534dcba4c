"""Which folder holds the teaching pictures of a label: PICTURES/<label>/, or PICTURES/none/.

The folder has the label's name. A character that no folder name may hold on some disk is written as
``%`` and its two hexadecimal digits, as in an address: ``wet/icy road`` is ``wet%2Ficy road``.
``labels learn`` reads these folders, and whoever keeps pictures for it writes them.
"""

from __future__ import annotations

import re

from edge_runtime.errors import ConfigError

NONE_FOLDER = "none"  # pictures of none of the labels
MAX_BYTES = 255  # of a folder's name, on every usual file system

# A slash parts folders. The others may not stand in a name on a memory stick, which is FAT.
_ODD = re.compile(r'[%/\\:*?"<>|]|^\.|[. ]$')
_ESCAPE = re.compile(r"%([0-7][0-9A-Fa-f])")


def folder_name(label: str) -> str:
    """The folder of a label. Raises ConfigError for a label too long to be one."""
    name = _ODD.sub(lambda found: _escape(found[0]), label)
    if name == NONE_FOLDER:
        name = _escape(name[0]) + name[1:]

    if len(name.encode()) > MAX_BYTES:
        raise ConfigError(
            f"label '{label[:30]}...' is too long to be the name of a folder",
            "give it a short name, and write these words as its prompt",
        )
    return name


def label_name(folder: str) -> str:
    """The inverse of `folder_name`; `NONE_FOLDER` must be told apart before."""
    # macOS writes an accent apart from its letter.
    import unicodedata

    name = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), folder)
    return unicodedata.normalize("NFC", name)


def _escape(character: str) -> str:
    return f"%{ord(character):02X}"
