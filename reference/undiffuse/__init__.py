"""Reference package."""
