"""Data sets as arrays: sources, the planted set, augmentation, preparation."""
