"""A small set of text rows in the files and spellings of the real ones."""

import json

import numpy as np
import pytest

from tools.factory.text.rows import unit


@pytest.fixture
def weights(tmp_path):
    """A small bank in which underscores move a row by a constant step, as they do in the real
    one."""
    rng = np.random.default_rng(0)
    step = 0.3 * unit(rng.normal(size=512))
    names = [f"thing {i}" for i in range(20)]
    plain = unit(rng.normal(size=(20, 512)))
    bank = [{"source": "oid", "name": n.title()} for n in names[:15]]
    bank += [{"source": "lvis", "name": n.replace(" ", "_")} for n in names[5:]]
    bank += [{"source": "imagenet1k", "name": "tench, Tinca tinca"}]
    vectors = np.concatenate([plain[:15], unit(plain[5:] - step), plain[:1]])
    extra = [{"source": "captions", "name": "Two people cross a Road.", "prompt": "{}"}]
    more = [
        {"set": "sun397", "name": name, "source": "KnOTS", "licence": "MIT"}
        for name in [*names[:4], "Airport_Terminal"]
    ]
    more += [{"set": "eurosat", "name": "river", "source": "KnOTS", "licence": "MIT"}]
    more += [{"set": "fsc147_names147", "name": "geese", "source": "YBNML", "licence": "none"}]
    more += [{"set": "gtsrb", "name": "stop", "source": "KnOTS", "licence": "MIT"}]
    photo = 0.3 * unit(rng.normal(size=512))
    scenes = unit(np.concatenate([plain[:4], plain[19:]]) - photo)
    np.save(tmp_path / "clip_vitb32_text_more.npy", np.concatenate([scenes, plain[:3]]))
    (tmp_path / "clip_vitb32_text_more_names.json").write_text(json.dumps({"rows": more}))
    np.save(tmp_path / "clip_vitb32_text_bank.npy", vectors.astype(np.float16))
    np.save(tmp_path / "clip_vitb32_text_extra.npy", plain[:1].astype(np.float16))
    (tmp_path / "clip_vitb32_text_bank_names.json").write_text(json.dumps(bank))
    (tmp_path / "clip_vitb32_text_extra_names.json").write_text(json.dumps(extra))
    return tmp_path, plain
