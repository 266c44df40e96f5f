"""What the figures of section 4 show: arrays to draw, and claims on them."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robust_features.theory import alignment, linear, mle, robust
from robust_features.theory.checks.rows import Claim, Row
from robust_features.theory.gaussian import GaussianModel


def _require_finite(cfg: Any, length: int, *names: str) -> None:
  """Raises ValueError unless fields hold finite numbers, so many of them.

  Args:
    cfg: Whose fields.
    length: Of every tuple; 0 for any but none.
    names: Of numbers, or of tuples.
  """
  for name in names:
    value = getattr(cfg, name)
    items = value if isinstance(value, tuple) else (value,)
    if not items or (length and len(items) != length):
      raise ValueError(
        f"{name} must hold {length or 'some'} numbers, got {value!r}"
      )
    if not all(math.isfinite(item) for item in items):
      raise ValueError(f"{name} must be finite, got {value!r}")


def _require_positive(cfg: Any, length: int, *names: str) -> None:
  """As `_require_finite`, of numbers above 0."""
  _require_finite(cfg, length, *names)
  for name in names:
    if np.min(getattr(cfg, name)) <= 0:
      raise ValueError(f"{name} must be above 0, got {getattr(cfg, name)!r}")


@dataclasses.dataclass(frozen=True)
class Metrics:
  """Figure 4: samples, boundary and metric on two axes.

  Attributes:
    mean: `[2]`, of the class +1.
    cov: `[2]`, diagonal.
    eps: Radii, one panel each.
    num_samples: Samples drawn.
  """

  mean: tuple[float, ...]
  cov: tuple[float, ...]
  eps: tuple[float, ...]
  num_samples: int

  def __post_init__(self):
    _require_finite(self, 2, "mean")
    _require_positive(self, 2, "cov")
    _require_finite(self, 0, "eps")
    _require_positive(self, 0, "num_samples")
    if min(self.eps) < 0:
      raise ValueError(f"eps must be at least 0, got {self.eps!r}")


@dataclasses.dataclass(frozen=True)
class Path:
  """Eigenvalues, multiplier and alignment against eps.

  Attributes:
    mean: `[M]`, repeated to the spectrum's length.
    spectrum: `[D]`, eigenvalues of Sigma_*.
    least_eps: The first radius, above 0.
    most_eps: The last.
    num_eps: How many, evenly in the logarithm.
  """

  mean: tuple[float, ...]
  spectrum: tuple[float, ...]
  least_eps: float
  most_eps: float
  num_eps: int

  def __post_init__(self):
    _require_finite(self, 0, "mean", "most_eps")
    _require_positive(self, 0, "spectrum", "least_eps", "num_eps")
    if self.most_eps <= self.least_eps:
      raise ValueError(
        f"most_eps must be above least_eps {self.least_eps!r}, got "
        f"{self.most_eps!r}"
      )


@dataclasses.dataclass(frozen=True)
class TwoFeatures:
  """Figure 14: two features that each tell the class.

  Attributes:
    mean: `[2]`, of the class +1.
    deviation: `[2]`.
    cut: Samples further off than so many deviations are not drawn.
    eps: The adversary's radius.
    num_samples: Samples to train on.
  """

  mean: tuple[float, ...]
  deviation: tuple[float, ...]
  cut: float
  eps: float
  num_samples: int

  def __post_init__(self):
    _require_finite(self, 2, "mean")
    _require_positive(self, 2, "deviation")
    _require_positive(self, 0, "cut", "eps", "num_samples")


@dataclasses.dataclass(frozen=True)
class Gap:
  """Problem (13) beside (20) as the dimension grows.

  Attributes:
    variances: Repeated to each dimension.
    eps_per_root_dim: Radii over the root of the dimension, one curve each.
    dims: Dimensions.
    num_samples: Samples of each fit, half of them mirrored.
  """

  variances: tuple[float, ...]
  eps_per_root_dim: tuple[float, ...]
  dims: tuple[int, ...]
  num_samples: int

  def __post_init__(self):
    _require_positive(self, 0, "variances", "eps_per_root_dim", "dims")
    if self.num_samples < 2:
      raise ValueError(
        f"num_samples must be at least 2, got {self.num_samples}"
      )


class Example(NamedTuple):
  """What one figure shows.

  Attributes:
    drawn: Arrays and numbers by name.
    rows: Claims that it makes good.
  """

  drawn: dict[str, Any]
  rows: list[Row]


def metrics(cfg: Metrics, seed: int) -> Example:
  """Returns figure 4's samples, and every panel's parameters and cosine."""
  truth = GaussianModel(cfg.mean, cfg.cov)
  x, y = truth.sample(jax.random.key(seed), cfg.num_samples)
  panels = []
  for eps in cfg.eps:
    mean, cov, _ = robust.robust_parameters(truth.mean, truth.cov, eps)
    cosine = alignment.alignment(mean, cov)
    panels.append({"eps": eps, "mean": mean, "cov": cov, "cosine": cosine})
  return Example({"x": x, "y": y, "panels": panels}, [])


def path(cfg: Path) -> Example:
  """Returns what changes with eps: eigenvalues, multiplier, alignment."""
  spectrum = np.asarray(cfg.spectrum)
  eps = np.geomspace(cfg.least_eps, cfg.most_eps, cfg.num_eps)
  mean = np.resize(np.asarray(cfg.mean), spectrum.shape)

  def at(eps):
    learned = robust.robust_parameters(mean, spectrum, eps)
    return {
      "learned": learned.cov,
      "lam": learned.lam,
      "bounds": robust.lambda_bounds(spectrum, eps)._asdict(),
      "worst": alignment.worst_case_alignment(learned.cov).cosine,
      "given": alignment.alignment(mean, learned.cov),
    }

  with jax.enable_x64(True):
    found = jax.tree.map(np.asarray, jax.jit(jax.vmap(at))(jnp.asarray(eps)))
  return Example({"eps": eps, "true": spectrum, "mean": mean, **found}, [])


def two_features(cfg: TwoFeatures, seed: int) -> Example:
  """Returns figure 14's samples and both fits, and checks what it shows."""
  rng = np.random.default_rng(seed)
  noise = rng.normal(size=(8 * cfg.num_samples, 2))
  noise = noise[(np.abs(noise) < cfg.cut).all(axis=1)][: cfg.num_samples]
  y = rng.choice([-1, 1], size=len(noise))
  x = y[:, None] * np.asarray(cfg.mean) + noise * np.asarray(cfg.deviation)
  fits = []
  for name, eps in (("ERM", 0.0), ("robust training", cfg.eps)):
    fit = linear.fit_linear(x, y, eps)
    margins = linear.margins(fit, x, y)
    fits.append(
      {
        "name": name,
        "weights": fit.weights,
        "bias": fit.bias,
        "accuracy": (margins > 0).mean(),
        "robust_accuracy": (margins > cfg.eps).mean(),
      }
    )
  drawn = {"x": x, "y": y, "fits": fits, "eps": cfg.eps}
  return Example(drawn, _fit_rows(x, y, *fits))


def _fit_rows(x, y, erm, trained) -> list[Row]:
  claim = Claim("Figure 14", "", "fit_linear")._replace
  design = np.column_stack([x, np.ones(len(x))])
  solution = np.linalg.lstsq(design, y.astype(float), rcond=None)[0]
  return [
    claim(statement="ERM is accurate, robust training both").equals(
      [erm["accuracy"], trained["accuracy"], trained["robust_accuracy"]],
      np.ones(3),
      0.0,
    ),
    claim(statement="ERM is robust on less than half").at_least(
      0.5, erm["robust_accuracy"], 0.0
    ),
    claim(statement="eps = 0 is least squares").equals(
      np.append(erm["weights"], erm["bias"]), solution, 1e-6
    ),
  ]


def gap(cfg: Gap, seed: int) -> Example:
  """Returns how far (13) is from (20) against d, and checks its fall."""
  curves = [
    [_gap_at(cfg, seed, dim, ratio) for dim in cfg.dims]
    for ratio in cfg.eps_per_root_dim
  ]
  shrink = cfg.dims[-1] / cfg.dims[0]
  claim = Claim(
    "(13) and (20)",
    f"the gap falls at least as d^-1/2 from d = {cfg.dims[0]} to "
    f"{cfg.dims[-1]}",
    "adversarial_mle",
  )
  rows = [
    claim.at_least(values[0] / np.sqrt(shrink), values[-1]) for values in curves
  ]
  drawn = {"dims": cfg.dims, "ratios": cfg.eps_per_root_dim, "curves": curves}
  return Example(drawn, rows)


def _gap_at(cfg: Gap, seed: int, dim: int, ratio: float) -> float:
  """Returns the relative distance of the two learned covariances."""
  rng = np.random.default_rng(seed)
  spread = np.sqrt(np.resize(np.asarray(cfg.variances), dim))
  x = rng.normal(size=(cfg.num_samples // 2, dim)) * spread
  # With every sample's mirror image the learned mean is 0 for both, and the
  # difference is that of the problems and not of the sample.
  x = np.concatenate([x, -x])
  eps = ratio * np.sqrt(dim)
  fit = mle.adversarial_mle(x, eps, adversary="sample", tolerance=1e-6)
  closed = robust.robust_parameters(x.mean(axis=0), x.var(axis=0), eps)
  distance = np.linalg.norm(fit.cov - closed.cov)
  return float(distance / np.linalg.norm(closed.cov))
