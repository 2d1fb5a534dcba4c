"""From a trained student to the int8 graph that ships: export, ranges, rounding, quantisation-aware
training."""
