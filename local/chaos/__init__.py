"""``python -m local.chaos``: runs that are cut off or disturbed at a drawn instant, done again, and looked at."""
