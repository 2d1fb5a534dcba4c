"""Whatever a person types into YAML becomes a value of the right type, or one line of error."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from edge_runtime.errors import ConfigError, NoInputError
from edge_runtime.system import strict_yaml, yaml_nodes


@dataclass(frozen=True)
class Inner:
    width: int = 1
    kind: Literal["fast", "slow"] = "fast"
    angle: Literal[0, 90] = 0


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    numbers: tuple[float, ...] = ()
    point: tuple[int, int] = (0, 0)
    maybe: int | None = None
    either: int | str = 0
    flag: bool = False


def parse(text: str) -> Outer:
    return strict_yaml.parse(text, "x.yaml", Outer)


def test_every_kind_of_value_is_converted():
    got = parse(
        "name: 5\ninner: {width: 3, kind: slow, angle: 90}\nnumbers: [1, 2.5]\n"
        "point: [4, 5]\nmaybe: ~\nflag: yes\n"
    )
    assert got == Outer("5", Inner(3, "slow", 90), (1.0, 2.5), (4, 5), None, 0, True)


@pytest.mark.fault("G1")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: a\nnme: b", "x.yaml:2: unknown key 'nme'; did you mean 'name'?"),
        (
            "name: a\ninner:\n  widht: 3",
            "x.yaml:3: unknown key 'widht' in inner; did you mean 'width'?",
        ),
        ("name: a\nzzz: 1", "x.yaml:2: unknown key 'zzz'; known keys: name, inner"),
        ("name: a\nname: b", "x.yaml:2: 'name' is given twice"),
        ("inner: {}", "'name' is missing"),
        ("", "'name' is missing"),
        ("name: a\ninner: 3", "x.yaml:2: inner must be a mapping"),
        (
            "name: a\ninner:\n  width: wide",
            "x.yaml:3: inner.width must be a whole number, not 'wide'",
        ),
        ("name: a\ninner: {kind: fsat}", "must be one of fast, slow; did you mean 'fast'?"),
        ("name: a\ninner: {angle: 45}", "inner.angle must be one of 0, 90"),
        ("name: a\nnumbers: 3", "numbers must be a list"),
        ("name: a\nnumbers: [.nan]", "numbers[0] must be a number"),
        ("name: a\npoint: [1]", "point must have 2 items"),
        ("name: a\nflag: 3", "flag must be true or false"),
        ("name: a\neither: [1]", "either must be"),
        ("name: a\nflag: ~", "flag must be true or false"),
        ("name: [a]", "name must be text"),
        ("name: &x a\nmaybe: *x", "aliases"),
        ("name: !!python/object/apply:os.system [ls]", "tag"),
        ("name: 'a", "x.yaml:1"),
        ("a: " + "[" * 40 + "]" * 40, "nested deeper"),
        ("- a", "must be a mapping"),
        ("name: \x00", "x.yaml"),
        (
            "name: a\ninner:\n\twidth: 3",
            "x.yaml:3: found character that cannot start any token; replace the tab by",
        ),
        ("name: @a", "x.yaml:1: found character that cannot start any token; check indentation"),
    ],
)
def test_a_mistake_is_one_line_that_names_its_place(text: str, says: str):
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_missing_huge_binary_or_a_folder_is_one_line(tmp_path: Path):
    with pytest.raises(NoInputError, match="no such thing"):
        strict_yaml.read_text(tmp_path / "none.yaml", "thing")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 0"):
        strict_yaml.read_text(tmp_path / "binary", "thing")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(yaml_nodes.MAX_BYTES + 1)
    with pytest.raises(ConfigError, match="more than 8 MB"):
        strict_yaml.read_text(tmp_path / "huge", "thing")
    with pytest.raises(ConfigError, match="cannot read"):
        strict_yaml.read_text(tmp_path, "thing")
    with pytest.raises(ConfigError, match="more than 8 MB"):
        parse("#" * (yaml_nodes.MAX_BYTES + 1))


@dataclass(frozen=True)
class Section:
    inner: Inner | None = None
    negated: str = field(default="", metadata={"key": "not"})


def test_a_section_with_nothing_below_it_is_the_section_with_its_defaults():
    assert strict_yaml.parse("inner:\n", "x.yaml", Section).inner == Inner()
    assert strict_yaml.parse("", "x.yaml", Section).inner is None


def test_a_key_may_be_a_word_that_python_keeps():
    assert strict_yaml.parse("not: a\n", "x.yaml", Section).negated == "a"
    with pytest.raises(ConfigError, match="unknown key 'negated'"):
        strict_yaml.parse("negated: a\n", "x.yaml", Section)


@dataclass(frozen=True)
class Short:
    source: str = field(default="none", metadata={"short": True})
    size: int = 1


@dataclass(frozen=True)
class House:
    camera: Short = field(default_factory=Short)
    spare: Short | None = None
    names: tuple[Short, ...] = ()
    limit: float | None = 80.0
    path: str | None = "there"
    count: int = 0
    words: tuple[str, ...] = ()
    label: str | None = field(default=None, metadata={"any_word": True})


def house(text: str) -> House:
    return strict_yaml.parse(text, "x.yaml", House)


@pytest.mark.fault("G4")
@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("camera: /dev/video0", House(camera=Short("/dev/video0"))),
        ("camera: 0", House(camera=Short("0"))),
        ("camera:\n# source: x\n", House()),
        ("names: [cat, off, 7]", House(names=(Short("cat"), Short("off"), Short("7")))),
        ("spare: off", House()),
        ("spare: on", House(spare=Short())),
        ("spare:", House(spare=Short())),
        ("spare: ~", House(spare=None)),
        ("spare: null", House(spare=None)),
        ("spare: x", House(spare=Short("x"))),
        ("limit: off", House(limit=None)),
        ("limit: no", House(limit=None)),
        ("limit: None", House(limit=None)),
        ("limit: ~", House(limit=None)),
        ("path: off", House(path=None)),
        ("path: 'off'", House(path="off")),
        ("path: none", House(path=None)),
        ("limit: 1e1", House(limit=10.0)),
        ("limit: '60'", House(limit=60.0)),
        ("limit: .5", House(limit=0.5)),
        ("count: 1e1", House(count=10)),
        ("count: 640.0", House(count=640)),
        ("count: 0x10", House(count=16)),
        ("count: -0", House(count=0)),
        ("count: 9007199254740993", House(count=9007199254740993)),
        ("label: off", House(label="off")),
        ("label: none", House(label="none")),
        ("\ufeffcount: 1", House(count=1)),
        ("words: [sh, -c, 'echo ${1}']", House(words=("sh", "-c", "echo ${1}"))),
    ],
)
def test_yaml_as_people_write_it_means_what_they_meant(text: str, means: House):
    assert house(strict_yaml.decode(text.encode(), "x.yaml")) == means


@pytest.mark.fault("G4")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "count: 0640",
            "x.yaml:1: count must be a whole number, not '0640'; "
            "a leading zero means octal in YAML, write 640",
        ),
        (
            "limit: 080",
            "x.yaml:1: limit must be a number, not '080'; "
            "a leading zero means octal in YAML, write 80",
        ),
        ("count: 1.5", "x.yaml:1: count must be a whole number, not '1.5'"),
        ("count: 1:30", "x.yaml:1: count must be a whole number, not '1:30'"),
        ("limit: 1,5", "x.yaml:1: limit must be a number, not '1,5'"),
        ("limit: .inf", "x.yaml:1: limit must be a number, not '.inf'"),
        ("limit: 1e999", "x.yaml:1: limit must be a number, not '1e999'"),
        ("count: off", "x.yaml:1: count must be a whole number, not 'off'"),
        (
            "path: ${HOME}/x",
            "x.yaml:1: path: ~/ and variables such as ${NAME} are not replaced here; write out",
        ),
        (
            "path: $HOME/x",
            "x.yaml:1: path: ~/ and variables such as ${NAME} are not replaced here; write out",
        ),
        (
            "path: ~/x",
            "x.yaml:1: path: ~/ and variables such as ${NAME} are not replaced here; write out",
        ),
        ("words:", "x.yaml:1: words is empty; give it a list ([a, b]) or remove the line"),
        ("names: cat, dog", "x.yaml:1: names must be a list ([a, b] or '- a' lines)"),
    ],
)
def test_what_cannot_be_meant_is_explained_in_the_line(text: str, says: str):
    with pytest.raises(ConfigError) as error:
        house(text)
    assert str(error.value).startswith(says)


@pytest.mark.fault("G5")
@pytest.mark.parametrize(
    "text", ['path: "a\\0b"', 'words: ["a\\0b"]', 'camera: "a\\0b"', 'count: "1\\0"']
)
def test_a_nul_byte_is_one_line_and_never_reaches_a_path(text: str):
    with pytest.raises(ConfigError, match="holds a NUL byte; remove it"):
        house(text)
