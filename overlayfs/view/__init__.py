"""Images by path, without a mount: their layers alone, and merged."""
