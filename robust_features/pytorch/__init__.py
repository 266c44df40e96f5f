"""PyTorch checkpoints in and out, without running pickled code."""
