"""The rooms of the model factory: what the verbs call. Imports run downward; no room imports a
verb."""
