"""What makes the figures of the docs: the demo and the comparisons; each writes a file in `results/`."""
