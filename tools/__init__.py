"""The model factory: one verb a file, `python -m tools.<verb> --help`. Never imported by
edge_runtime."""
