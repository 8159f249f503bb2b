"""What this machine keeps: blobs, unpacked layers, names, mounts."""
