"""Pictures: folders, lists and shards give the same samples; unreadable pictures are listed, and
decompression bombs are refused."""

from __future__ import annotations

import io
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tqdm", reason="needs edge-label[train]")

from edge_runtime.errors import ConfigError, DataError, NoInputError
from tools.factory.data import pictures
from tools.factory.data.pictures import cache_pictures, decode
from tools.factory.data.samples import scan
from tools.factory.recipe import InputRecipe, SourceRecipe

SPEC = InputRecipe(size=16, cache_size=16)


def png(
    colour: tuple[int, int, int],
    size: tuple[int, int] = (20, 10),
    kind: str = "PNG",
    **options: object,
) -> bytes:
    """An encoded picture of one colour."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, kind, **options)
    return out.getvalue()


def bomb(side: int) -> bytes:
    """A PNG that says it is side x side pixels; a few kilobytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")
        )

    header = side.to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    body = zlib.compress(b"\0" * 100_000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """red/a.png, red/b.png, blue/c.png and three that are no pictures."""
    for name, colour in {"red/a": (200, 0, 0), "red/b": (210, 5, 0), "blue/c": (0, 0, 200)}.items():
        path = tmp_path / "set" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(colour))
    (tmp_path / "set/red/cut.jpg").write_bytes(png((9, 9, 9), (200, 200), "JPEG")[:400])
    (tmp_path / "set/red/empty.png").write_bytes(b"")
    (tmp_path / "set/red/bomb.png").write_bytes(bomb(9_000))
    return tmp_path


def test_a_folder_gives_labels_and_texts(folder: Path) -> None:
    samples = scan((SourceRecipe("s", "set", label="folder", validation=0),), folder)
    texts = {sample.key: sample.prompts for sample in samples}
    assert texts["s/red/a.png"] == ("a photo of a red",)
    assert texts["s/blue/c.png"] == ("a photo of a blue",)
    assert not any(sample.held_out for sample in samples)


def test_broken_pictures_are_listed_and_the_good_ones_keep_their_rows(folder: Path) -> None:
    samples = scan((SourceRecipe("s", "set", label="folder"),), folder)
    cache = cache_pictures(samples, SPEC, folder / "cache", quiet=True)
    assert sorted(key for key, _ in cache.broken) == [
        "s/red/bomb.png",
        "s/red/cut.jpg",
        "s/red/empty.png",
    ]
    assert (
        dict(cache.broken)["s/red/bomb.png"] == "9000 x 9000 pixels, more than 50 million: refused"
    )
    assert cache.pictures.shape == (3, 16, 16, 3)
    for sample, picture in zip(cache.samples, cache.pictures, strict=True):
        blue = "blue" in sample.key
        assert (picture.mean((0, 1)).argmax() == 2) == blue
    pictures.write_broken_list(cache.broken, folder / "broken.csv")
    assert (folder / "broken.csv").read_text().count("\n") == 4


@pytest.mark.parametrize("side", [9_000, 30_000])
def test_a_bomb_is_refused_before_it_is_unpacked(
    side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpack(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(Image.Image, "convert", unpack)
    monkeypatch.setattr(Image.Image, "load", unpack)
    with pytest.raises(ValueError, match=r"million.*: refused"):
        decode(bomb(side))


def test_the_cache_is_used_again_until_a_picture_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (SourceRecipe("s", "set"),)
    first = cache_pictures(scan(source, folder), SPEC, folder / "cache", quiet=True)
    monkeypatch.setattr(pictures, "decode", lambda _: pytest.fail("decoded again"))
    again = cache_pictures(scan(source, folder), SPEC, folder / "cache", quiet=True)
    assert np.array_equal(first.pictures, again.pictures)
    assert first.broken == again.broken
    monkeypatch.undo()
    (folder / "set/red/a.png").write_bytes(png((0, 250, 0)))
    changed = cache_pictures(scan(source, folder), SPEC, folder / "cache", quiet=True)
    assert changed.digest != first.digest


def test_nothing_readable_at_all_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="none of 1 pictures can be read"):
        cache_pictures(
            scan((SourceRecipe("s", "."),), tmp_path), SPEC, tmp_path / "cache", quiet=True
        )


def test_a_csv_list_names_files_labels_texts_and_conditions(folder: Path) -> None:
    (folder / "list.csv").write_text(
        "file,label,text,condition\nset/red/a.png,red,,\nset/blue/c.png,,a blue thing at dusk,fog\n"
    )
    samples = scan((SourceRecipe("s", "list.csv", kind="csv"),), folder)
    assert [s.prompts for s in samples] == [("a photo of a red",), ("a blue thing at dusk",)]
    assert [s.condition for s in samples] == ["", "fog"]
    assert cache_pictures(samples, SPEC, folder / "cache", quiet=True).pictures[1, 0, 0, 2] == 200
    (folder / "list.csv").write_text("file,condition\nset/red/a.png,fogg\n")
    with pytest.raises(ConfigError, match=r"list.csv:2: unknown condition 'fogg'"):
        scan((SourceRecipe("s", "list.csv", kind="csv"),), folder)
    (folder / "list.csv").write_text("picture\nset/red/a.png\n")
    with pytest.raises(DataError, match="the first line must name the columns"):
        scan((SourceRecipe("s", "list.csv", kind="csv"),), folder)


def test_webdataset_shards_give_pictures_with_captions_and_classes(tmp_path: Path) -> None:
    files = {
        "0001.png": png((200, 0, 0)),
        "0001.txt": b"a red wall",
        "0002.png": png((0, 0, 200)),
        "0002.cls": b"sea",
        "0003.jpg": png((0, 200, 0), kind="JPEG"),
        "0003.json": b'{"caption": "a meadow"}',
    }
    with tarfile.open(tmp_path / "shard-000.tar", "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    samples = scan((SourceRecipe("s", "shard-*.tar", kind="tar", templates=("the {}",)),), tmp_path)
    assert [s.prompts for s in samples] == [("a red wall",), ("the sea",), ("a meadow",)]
    pictures = cache_pictures(samples, SPEC, tmp_path / "cache", quiet=True).pictures
    assert [int(p.mean((0, 1)).argmax()) for p in pictures] == [0, 2, 1]
    (tmp_path / "shard-001.tar").write_bytes(b"not a tar" * 100)
    with pytest.raises(DataError, match=r"shard-001\.tar: not an uncompressed tar shard"):
        scan((SourceRecipe("s", "shard-*.tar", kind="tar"),), tmp_path)
    with pytest.raises(NoInputError, match="no such shards"):
        scan((SourceRecipe("s", "none-*.tar", kind="tar"),), tmp_path)


def test_the_held_out_share_is_the_same_pictures_every_time(folder: Path) -> None:
    for i in range(200):
        (folder / "set" / f"{i}.png").touch()
    held = [
        [s.key for s in scan((SourceRecipe("s", "set", validation=0.2),), folder) if s.held_out]
        for _ in "ab"
    ]
    assert held[0] == held[1]
    assert 20 <= len(held[0]) <= 65


def test_pictures_are_turned_upright_and_sixteen_bits_become_eight() -> None:
    turned = Image.new("RGB", (4, 8), (255, 0, 0))
    out = io.BytesIO()
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(out, "JPEG", exif=exif)
    assert decode(out.getvalue()).shape == (4, 8, 3)
    deep = io.BytesIO()
    Image.fromarray(np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)).save(deep, "PNG")
    grey = decode(deep.getvalue())
    assert grey.dtype == np.uint8
    assert (int(grey.min()), int(grey.max())) == (0, 255)
