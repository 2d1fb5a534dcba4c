"""What each of several changes to a recipe is worth: alone, all together, over several seeds.

Every run is judged on the same held-out pictures and by the same text rows, those of the recipe
with all ingredients: a run that was trained on worse rows must still serve the better ones.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError
from edge_runtime.system.strict_yaml import read_text
from tools.lib import markdown

NOTHING_NEW = "nothing new"
ALL = "all together"
RESAMPLES = 2000  # of the bootstrap
INTERVAL = (2.5, 97.5)  # percentiles: 95 %
Overrides = dict[str, Any]
Right = dict[str, NDArray[np.bool_]]  # source -> which held-out pictures were named right


def read_ingredients(path: Path) -> dict[str, Overrides]:
    """Name -> what it changes. Raises NoInputError, ConfigError."""
    try:
        entries = yaml.safe_load(read_text(path, "list of ingredients"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(entries, dict) or not all(isinstance(e, dict) for e in entries.values()):
        raise ConfigError(f"{path}: must be a mapping of ingredient: changes")
    return entries


def variants(recipe: str, ingredients: dict[str, Overrides]) -> dict[str, str]:
    """Name -> YAML text of a recipe: nothing new, each ingredient alone, all together."""
    plain = yaml.safe_load(recipe)
    everything = plain
    out = {NOTHING_NEW: _text(plain)}
    for name, changes in ingredients.items():
        out[name] = _text(changed(plain, changes))
        everything = changed(everything, changes)
    out[ALL] = _text(everything)
    return out


def changed(recipe: Overrides, changes: Overrides) -> Overrides:
    """A copy of a recipe with the changes of an ingredient; `data` is changed by source.

    Raises ConfigError for a source that the recipe does not have.
    """
    result = copy.deepcopy(recipe)
    changes = dict(changes)
    sources = {source["name"]: source for source in result["data"]}
    for name, change in changes.pop("data", {}).items():
        if name not in sources:
            raise ConfigError(f"ingredients: the recipe has no source '{name}'")
        sources[name].update(copy.deepcopy(change))
    for section, change in changes.items():
        if isinstance(change, dict):
            result.setdefault(section, {}).update(copy.deepcopy(change))
        else:
            result[section] = change
    return result


def with_seed(recipe: str, seed: int) -> str:
    """The recipe's YAML with another order of the pictures."""
    return _text(changed(yaml.safe_load(recipe), {"train": {"seed": seed}}))


def _text(recipe: Overrides) -> str:
    return yaml.safe_dump(recipe, sort_keys=False, width=120)


@dataclass(frozen=True)
class Gain:
    """Top-1 over several seeds, and what it has gained over another variant, all in percent."""

    top1: float
    gain: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.top1:.1f} ({self.gain:+.1f}: {self.low:+.1f} to {self.high:+.1f})"


def gains(runs: list[Right], plain: list[Right]) -> dict[str, Gain]:
    """By source, and under "mean" over all sources.

    The interval is by bootstrap over pictures and over seeds. Both variants see the same pictures,
    so their difference on a picture is what varies.
    """
    rng = np.random.default_rng(0)
    differences = {}
    top1 = {}
    resampled = []
    for source in plain[0]:
        own = np.stack([run[source] for run in runs]).astype(float)
        base = np.stack([run[source] for run in plain]).astype(float)
        top1[source] = own.mean()
        differences[source] = own.mean() - base.mean()
        resampled.append(_bootstrap(own, base, rng))

    by_source = np.stack(resampled)
    out = {}
    for number, source in enumerate(plain[0]):
        out[source] = _gain(top1[source], differences[source], by_source[number])
    mean_top1 = float(np.mean(list(top1.values())))
    mean_gain = float(np.mean(list(differences.values())))
    return {"mean": _gain(mean_top1, mean_gain, by_source.mean(0)), **out}


def _bootstrap(
    own: NDArray[np.float64], base: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Mean differences (RESAMPLES,) of (seeds, pictures) arrays, both axes drawn again."""
    pictures = own.shape[1]
    out = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        drawn = rng.integers(pictures, size=pictures)
        of_own = own[rng.integers(len(own), size=len(own))].mean(0)
        of_base = base[rng.integers(len(base), size=len(base))].mean(0)
        out[number] = (of_own - of_base)[drawn].mean()
    return out


def _gain(top1: float, gain: float, resampled: NDArray[np.float64]) -> Gain:
    low, high = np.percentile(resampled, INTERVAL)
    return Gain(100 * top1, 100 * gain, 100 * float(low), 100 * float(high))


def gains_table(rows: dict[str, dict[str, Gain]]) -> str:
    """A row for each variant: top-1, and in brackets the gain and its interval."""
    columns = list(next(iter(rows.values())))
    lines = []
    for name, by_source in rows.items():
        plain = name == NOTHING_NEW
        cells = [f"{by_source[c].top1:.1f}" if plain else str(by_source[c]) for c in columns]
        lines.append([name, *cells])
    return markdown.table(["variant", *columns], lines)
