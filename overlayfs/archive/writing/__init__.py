"""Images and trees on their way out: tars, layouts, and files that appear whole."""
