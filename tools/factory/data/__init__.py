"""Pictures: where they stand, what describes them, how they are decoded and varied."""
