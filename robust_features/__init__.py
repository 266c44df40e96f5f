"""Adversarial examples are features: robust and non-robust data sets in JAX."""

__version__ = "0.1.0"
