"""A FUSE-mounted overlay file system for container images."""
