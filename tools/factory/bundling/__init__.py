"""From a quantised run to a bundle: text bank, files, manifest, model card."""
