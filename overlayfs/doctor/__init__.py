"""What this machine must have for images to be kept and mounted, looked at by trying."""
