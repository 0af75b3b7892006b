"""Checks, grades, builds and releases exercises."""
