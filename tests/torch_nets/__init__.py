"""PyTorch twins of the models, used to record golden data."""
