"""The live file system, by inode."""
