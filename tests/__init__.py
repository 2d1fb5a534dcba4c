"""Tests, named after the promises they keep."""
