"""The order of an image array's axes, which frameworks do not agree on."""


def is_channels_first(shape: tuple[int, ...]) -> bool:
  """Returns whether a shape looks like [N, C, H, W] instead of [N, H, W, C].

  Grey or colour, and no such number of channels at the end.
  """
  return shape[1] in (1, 3) and shape[3] > 4
