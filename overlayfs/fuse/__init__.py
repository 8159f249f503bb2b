"""The edge to the kernel: the only place that knows pyfuse3."""
