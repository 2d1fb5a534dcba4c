"""Text rows: genuine ones, and the encoder and the map that estimate the others."""
