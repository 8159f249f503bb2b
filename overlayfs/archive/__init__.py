"""Images in files and directories."""
