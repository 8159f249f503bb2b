"""Layers on disk: lower directories, the upper directory, unpacking."""
