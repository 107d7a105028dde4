"""Numbers that others have published, to stand beside those of own runs."""
