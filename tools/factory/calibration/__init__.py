"""Scores that mean what they say: logit scale, temperatures, biases, thresholds."""
