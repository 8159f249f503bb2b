"""System calls, one function each: arguments in, result or OSError out."""
