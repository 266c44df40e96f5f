"""What a robust and a standard model's representations hold, as pictures.

Images are inverted from noise and from another image, joined by lines between
their representations, and single entries of the representation are climbed as
high as they go: the most visited notebooks of the authors' library, here on
the planted set, whose truth is known. The control is the standard model: the
same images, starts and noise, the same number of steps. A robust inversion
must end nearer to the original in pixels; the robust picture shows the shape
of its class, and the standard one hides a texture in what it began with. (In
15% of the images the shape is another class's; the set is made so.)

Command: python -m robust_features.main --config=configs/pictures.py
Time: two minutes on two CPU cores, a planned number.
Expect: figures/pictures_*.png; inversions of both models end near the original
  in representation (relative distance .1 to .2, one seed), those of the robust
  one nearer to it in pixels, by .7 ± .1 of l2.
Reference: arXiv:1905.02175, section 3.1 and appendix C.4; arXiv:1906.00945.
"""

from robust_features import recipes

EPS = 0.5


def get_config(variant: str = ""):
  """Returns the study; `:smoke` runs in seconds and shows nothing."""
  config = recipes.planted_study("pictures")
  standard = recipes.planted_train()
  robust = recipes.planted_robust_train(EPS)
  evaluation = recipes.evaluation(eps=(EPS,), num_steps=40, batch_size=250)
  for name, recipe, title in (
    ("standard", standard, "standard training"),
    ("robust", robust, "adversarial training"),
  ):
    config.stages[name] = recipes.train_stage("main", "D", recipe)
    recipes.add_row(config, name, title, evaluation)
  stage = recipes.pictures_stage(("robust", "standard"))
  # These images are small, and far fewer steps go as far; 200 of length 1 would
  # drive every pixel that a feature sees to black or white.
  inversion, features = stage.pictures.inversion, stage.pictures.features
  inversion.num_steps, inversion.frame_every_steps = 100, 25
  features.step_size, features.num_steps = 0.1, 30
  features.frame_every_steps = 15
  # Four pixels make an entry of this network's representation. A gradient that
  # passes closed ReLUs goes on pushing those that are off, and the inversion of
  # the robust model ends in noise.
  inversion.fake_relu = False
  config.stages.pictures = stage
  return recipes.variant(config, variant)
