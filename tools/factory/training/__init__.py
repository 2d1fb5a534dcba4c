"""Distillation: materials, batches, losses, the loop, and what becomes of the weights."""
