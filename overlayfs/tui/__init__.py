"""A terminal explorer of images; the only part that draws screens."""
