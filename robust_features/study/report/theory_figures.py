"""Figures of section 4, from arrays; colour-blind safe and print-ready.

Every curve has a line style or marker of its own beside its colour. Nothing
here computes: arguments are what is drawn, results are matplotlib figures.
"""

from typing import Any

import matplotlib.figure
import matplotlib.patches
import numpy as np

from robust_features.study.report import figures

BLUE, RED, GREEN, PURPLE, ORANGE = figures.COLOURS[:5]
_LINES = tuple(
  zip(
    (BLUE, RED, GREEN, PURPLE, ORANGE, "black"),
    ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1))),
    strict=True,
  )
)
_EPS = r"perturbation budget $\varepsilon$ ($\ell_2$)"


def _new(width: float = 3.6, height: float = 2.8, columns: int = 1):
  figure = matplotlib.figure.Figure(
    figsize=(width, height), layout="constrained"
  )
  return figure, figure.subplots(1, columns, squeeze=False, sharey=True)[0]


def _boundary(axes, weights, bias, style, **kwargs) -> None:
  """Draws {x : w'x + b = 0} right across the axes."""
  w = np.asarray(weights, np.float64)
  point = -float(bias) * w / (w @ w)
  axes.axline(point, point + np.array([-w[1], w[0]]), ls=style, **kwargs)


def _samples(axes, x, y) -> None:
  x, y = np.asarray(x), np.asarray(y)
  for label, colour, marker in ((1, BLUE, "o"), (-1, RED, "^")):
    axes.scatter(
      *x[y == label].T, s=9, c=colour, marker=marker, alpha=0.45, lw=0,
      label=f"$y = {label:+d}$", rasterized=True,
    )  # fmt: skip


@figures.styled
def examples(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
  """Draws section 4: figures by name.

  Args:
    found: What `theory.checks.examples` gives, by function, in lists or arrays.
  """
  path = {
    name: value if name == "bounds" else np.asarray(value)
    for name, value in found["path"].items()
  }
  eps = path["eps"]
  return {
    "figure4": metrics(**found["metrics"]),
    "figure14": two_features(**found["two_features"]),
    "eigenvalues": eigenvalues(eps, path["learned"], path["true"]),
    "lambda": multiplier(eps, path["lam"], path["bounds"]),
    "alignment": alignments(eps, path["worst"], path["given"], path["mean"]),
    "gap": gaps(**found["gap"]),
  }


def metrics(x, y, panels: list[dict[str, Any]]) -> Any:
  """Draws figure 4: samples, boundary and unit balls of both metrics.

  Args:
    x: `[N, 2]` samples.
    y: `[N]` of -1 and +1.
    panels: One dict an eps: "eps", "mean" `[2]`, "cov" `[2]`, "cosine" of the
      gradient and the mean.
  """
  figure, grid = _new(2.35 * len(panels), 1.9, len(panels))
  for axes, panel in zip(grid, panels, strict=True):
    _metric_panel(axes, x, y, **panel)
  grid[0].set_ylabel("$x_2$")
  handles, labels = grid[0].get_legend_handles_labels()
  legend = figure.legend(
    handles, labels, ncols=5, loc="outside upper center",
    fontsize=8, columnspacing=1.2, handletextpad=0.5,
  )  # fmt: skip
  for handle in filter(None, legend.legend_handles):
    handle.set_alpha(1)
  return figure


def _metric_panel(axes, x, y, *, eps, mean, cov, cosine) -> None:
  mean, cov = np.asarray(mean), np.asarray(cov)
  _samples(axes, x, y)
  _boundary(axes, mean / cov, 0.0, "-", color="black", lw=1.6, label="boundary")
  radius = 3.0
  # Scaled to the area of the circle: what matters of a metric is its shape.
  axis = radius * np.sqrt(cov) / np.prod(cov) ** 0.25
  for sign in (1, -1):
    centre = sign * mean
    for shape, style, name in (
      ((radius, radius), ":", r"$\ell_2$ ball"),
      (axis, "--", r"ball of $\Sigma_r^{-1}$ (same area)"),
    ):
      axes.add_patch(
        matplotlib.patches.Ellipse(
          tuple(centre),
          *(2 * np.asarray(shape)),
          fill=False,
          ls=style,
          lw=1.4,
          ec=GREEN if style == ":" else "black",
          label=name if sign == 1 else None,
          zorder=3,
        )
      )
  axes.set_xlim(-20, 20)
  axes.set_ylim(-10, 10)
  axes.set_aspect("equal")
  axes.set_title(
    rf"$\varepsilon = {eps:g}$,  $\cos\angle(\nabla f, \mu) = {cosine:.2f}$",
    fontsize=9,
  )
  axes.set_xlabel("$x_1$")
  axes.tick_params(labelsize=8)


def two_features(x, y, fits: list[dict[str, Any]], eps: float) -> Any:
  """Draws figure 14: learned boundaries on two predictive features.

  Args:
    x: `[N, 2]` samples.
    y: `[N]` of -1 and +1.
    fits: "name", "weights" `[2]`, "bias", "accuracy" and "robust_accuracy".
    eps: Radius of the adversary, drawn about two points.
  """
  x, y = np.asarray(x), np.asarray(y)
  figure, (axes,) = _new(4.8, 3.4)
  _samples(axes, x, y)
  styles = (("-", GREEN), ("--", "black"))
  for fit, (style, colour) in zip(fits, styles, strict=True):
    label = (
      f"{fit['name']}: {100 * fit['accuracy']:.0f}% accurate, "
      f"{100 * fit['robust_accuracy']:.0f}% robust"
    )
    _boundary(
      axes,
      fit["weights"],
      fit["bias"],
      style,
      color=colour,
      lw=1.8,
      label=label,
    )
  # The samples nearest the origin, where a boundary must pass.
  for label in (1, -1):
    nearest = x[y == label][np.abs(x[y == label][:, 0]).argmin()]
    axes.add_patch(
      matplotlib.patches.Circle(nearest, eps, fill=False, ls=":", lw=1.2)
    )
  axes.plot(
    [], [], "k:", lw=1.2, label=rf"$\ell_2$ ball, $\varepsilon = {eps:g}$"
  )
  limit = 1.08 * np.abs(x[:, 0]).max()
  axes.set_xlim(-limit, limit)
  axes.set_ylim(-0.55 * limit, 0.55 * limit)
  axes.set_aspect("equal")
  axes.set_xlabel("$x_1$ (wide margin)")
  axes.set_ylabel("$x_2$ (narrow margin)")
  handles, labels = axes.get_legend_handles_labels()
  order = [0, 1, 4, 2, 3]  # What is drawn in the left column, fits beside.
  handles, labels = ([parts[i] for i in order] for parts in (handles, labels))
  legend = figure.legend(
    handles, labels, loc="outside upper center", ncols=2,
    fontsize=8,
  )  # fmt: skip
  for handle in filter(None, legend.legend_handles):
    handle.set_alpha(1)
  return figure


def eigenvalues(eps, learned, true) -> Any:
  """Draws the eigenvalues of Sigma_r against eps.

  Args:
    eps: `[E]` radii.
    learned: `[E, D]`.
    true: `[D]`, at most six.
  """
  figure, (axes,) = _new(4.0, 3.0)
  order = np.argsort(true)[::-1]
  for index, (colour, style) in zip(order, _LINES, strict=False):
    axes.loglog(
      eps, learned[:, index], ls=style, color=colour, lw=1.6,
      label=rf"$s = {true[index]:g}$",
    )  # fmt: skip
  limit = eps**2 / len(true)
  seen = limit > 0.3 * true.min()
  axes.loglog(
    eps[seen], limit[seen], color="0.55", lw=3, alpha=0.6, zorder=0,
    label=r"$\varepsilon^2 / d$",
  )  # fmt: skip
  axes.set_xlabel(_EPS)
  axes.set_ylabel(r"eigenvalues of $\Sigma_r$")
  axes.legend(
    title=r"eigenvalue of $\Sigma_*$", fontsize=8, title_fontsize=8,
  )  # fmt: skip
  return figure


def multiplier(eps, lam, bounds) -> Any:
  """Draws lambda between the bounds of Theorem 2.

  Args:
    eps: `[E]` radii.
    lam: `[E]`.
    bounds: `[E]` by name, as of `robust.LambdaBounds`.
  """
  figure, (axes,) = _new(4.0, 3.0)
  axes.fill_between(eps, bounds["lower"], bounds["upper"], color="0.92", lw=0)
  axes.fill_between(
    eps, bounds["tight_lower"], bounds["tight_upper"], color="0.82", lw=0
  )
  for values, label, colour, style in (
    (bounds["upper"], r"upper bound, $\Sigma_*$ only", RED, ":"),
    (bounds["tight_upper"], r"upper bound, knowing $\Sigma_r$", RED, "--"),
    (lam, r"$\lambda$, exact", "black", "-"),
    (bounds["tight_lower"], r"lower bound, knowing $\Sigma_r$", BLUE, "--"),
    (bounds["lower"], r"lower bound, $\Sigma_*$ only", BLUE, ":"),
  ):
    axes.loglog(eps, values, ls=style, color=colour, lw=1.6, label=label)
  axes.set_xlabel(_EPS)
  axes.set_ylabel(r"multiplier $\lambda$")
  axes.legend(fontsize=8)
  return figure


def alignments(eps, worst, given, mean) -> Any:
  """Draws the cosine of gradient and mean against eps (Theorem 3).

  Args:
    eps: `[E]` radii.
    worst: `[E]`, the least cosine over all means.
    given: `[E]`, the cosine of one mean.
    mean: `[D]`, that mean, for the legend.
  """
  figure, (axes,) = _new(4.0, 3.0)
  words = ", ".join(f"{value:g}" for value in mean)
  axes.semilogx(
    eps, given, ls="--", color=RED, lw=1.6, label=rf"$\mu = ({words})$"
  )
  axes.semilogx(
    eps, worst, color=BLUE, lw=1.6,
    label=r"worst $\mu$: $2\sqrt{\kappa} / (1 + \kappa)$",
  )  # fmt: skip
  axes.axhline(
    worst[0],
    color=BLUE,
    lw=1,
    ls=":",
    label=r"worst $\mu$ at $\varepsilon = 0$",
  )
  axes.set_ylim(0, 1.02)
  axes.set_xlabel(_EPS)
  axes.set_ylabel(r"$\cos\angle(\Sigma_r^{-1}\mu,\ \mu)$")
  axes.legend(fontsize=8, loc="upper left")
  return figure


def gaps(dims, ratios, curves) -> Any:
  """Draws how far the per-sample problem (13) is from (20), against d.

  Args:
    dims: `[K]` dimensions.
    ratios: `[R]`, eps over the root of the dimension.
    curves: `[R, K]` relative distances.
  """
  figure, (axes,) = _new(4.0, 3.0)
  markers = "osD^v"
  for ratio, values, (colour, style), marker in zip(
    ratios, curves, _LINES, markers, strict=False
  ):
    axes.loglog(
      dims, values, ls=style, color=colour, marker=marker, ms=5, lw=1.4,
      label=rf"$\varepsilon = {ratio:g}\sqrt{{d}}$",
    )  # fmt: skip
  first = max(values[0] for values in curves)
  axes.loglog(
    dims, 1.6 * first * dims[0] / np.asarray(dims), color="0.6", lw=2.5,
    alpha=0.6, zorder=0, label=r"$\propto 1 / d$",
  )  # fmt: skip
  axes.set_xlabel("dimension $d$")
  axes.set_ylabel(
    r"$\|\Sigma^{(13)} - \Sigma^{(20)}\|_F\, /\, \|\Sigma^{(20)}\|_F$"
  )
  axes.legend(fontsize=8)
  return figure
