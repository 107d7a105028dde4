"""Modules built from numbers and sub-modules; none of them sees a config."""
