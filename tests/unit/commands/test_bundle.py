"""A bundle is described by its manifest, and verified by reading all that a run would read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_runtime.commands.bundle import bundle_info, bundle_verify
from edge_runtime.errors import BundleError


def test_info_says_what_is_in_it_and_leaves_out_what_the_manifest_does_not_say(tiny_bundle: Path):
    text = bundle_info(str(tiny_bundle), as_json=False)
    first, *facts = text.splitlines()
    assert first.startswith(f"tiny-1.0.0 in {tiny_bundle}")
    assert "  label sets     colours" in facts
    assert not any(line.split()[0] == "trial" for line in facts)


def test_info_as_json_is_the_manifest(tiny_bundle: Path):
    manifest = json.loads((tiny_bundle / "manifest.json").read_text())
    assert json.loads(bundle_info(str(tiny_bundle), as_json=True)) == manifest


def test_verify_counts_every_byte_and_refuses_a_changed_file(tiny_bundle: Path):
    facts = json.loads(bundle_verify(str(tiny_bundle), as_json=True))
    manifest = json.loads((tiny_bundle / "manifest.json").read_text())
    assert facts["ok"] is True
    assert facts["bytes"] == sum(file["size"] for file in manifest["files"].values())

    bank = tiny_bundle / "text_bank.npy"
    bank.write_bytes(bank.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match=r"text_bank\.npy"):
        bundle_verify(str(tiny_bundle), as_json=False)
