"""What keeps the repository in order: generated documents, release check, screenshots, style."""
