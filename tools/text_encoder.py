"""Make models/text-encoder: any English phrase -> CLIP's text space, on the device, offline, in
under 25 MB.

    python -m tools.text_encoder                       make it, measure it on held-out names, write
    its model card
    python -m tools.text_encoder --scenes FOLDER       also judge it by pictures: one folder a
                                                       scene, through the image encoder of a bundle

all-MiniLM-L6-v2 is exported as ONNX without the words it will not meet (its vocabulary is cut to
ASCII), its matrices are quantised to int8, and the map to CLIP's text space is fitted on the
features of that int8 network.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from edge_runtime.errors import EdgeLabelError
from edge_runtime.files import write_atomically
from edge_runtime.model.text_encoder import onnx_tower
from tools.factory.text.encoder import card, make_encoder, manifest, scene_figures
from tools.factory.text.sentence_map import DEFAULT_WEIGHTS, load_text_rows, unique_rows
from tools.factory.text.tower import MAX_TOKENS

OUT = Path("models/text-encoder")


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.text_encoder",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help=f"default {OUT}")
    parser.add_argument(
        "--weights", type=Path, default=DEFAULT_WEIGHTS, help="folder of the shared CLIP text rows"
    )
    parser.add_argument(
        "--scenes", type=Path, metavar="FOLDER", help="pictures, one folder a scene"
    )
    parser.add_argument(
        "--bundle", type=Path, default=Path("models/edge-clip"), help="whose image encoder judges"
    )
    options = parser.parse_args()
    try:
        files, figures = make_encoder(options.weights)
        rows = load_text_rows(options.weights)
        figures["support"] = len(unique_rows(rows))
        scenes = ""
        if options.scenes:
            features = onnx_tower(
                files["encoder.onnx"], files["tokenizer.json"], "encoder.onnx", MAX_TOKENS
            )
            scenes = scene_figures(options.scenes, options.bundle, rows, features)
        for name, data in files.items():
            write_atomically(options.out / name, data)
        meta = json.dumps(manifest(files, figures), indent=1, ensure_ascii=False) + "\n"
        write_atomically(options.out / "manifest.json", meta.encode())
        write_atomically(options.out / "MODEL_CARD.md", card(files, figures, scenes).encode())
    except EdgeLabelError as error:
        parser.exit(error.exit_code, f"tools.text_encoder: {error}\n")
    total = sum(map(len, files.values())) / 1e6
    print(
        f"{options.out}: {total:.1f} MB; {figures['names']:.0f} held-out names: right name first "
        f"{figures['first']:.1%}, in the first five {figures['first_five']:.1%}, cosine {figures['cosine']:.3f}"
    )
    print(scenes, end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
