"""Scores on labelled pictures."""
