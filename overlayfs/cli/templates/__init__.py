"""Templates in the way of Go."""
