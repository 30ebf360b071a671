"""``python -m local.bench``: how fast the program is, beside what one would do without it, as ratios within one run."""
