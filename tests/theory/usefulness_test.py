"""Section 2: usefulness and robust usefulness, exact, attacked and drawn."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from robust_features import attacks, usefulness
from robust_features.theory import usefulness as us
from robust_features.theory.usefulness import FeatureKind


def _images(num=40, seed=0):
  """Images far from the faces of the box, and their labels of -1 and +1."""
  rng = np.random.default_rng(seed)
  y = rng.choice([-1.0, 1.0], size=num)
  x = (
    0.5 + 0.05 * rng.normal(size=(num, 3, 3, 1)) + 0.05 * y[:, None, None, None]
  )
  return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)


def _maximize_fn(norm, eps, num_steps=20):
  cfg = attacks.AttackConfig(norm, eps, eps, num_steps)

  def maximize(objective_fn, x):
    keys = attacks.example_keys(jax.random.key(0), jnp.arange(len(x)))
    return attacks.maximize(objective_fn, x, keys, cfg).x_adv

  return maximize


def _linear(num_features=2, seed=1):
  rng = np.random.default_rng(seed)
  weights = jnp.asarray(rng.normal(size=(9, num_features)), jnp.float32)
  return us.LinearFeatures(weights, jnp.ones(num_features, jnp.float32))


class UsefulnessTest(parameterized.TestCase):
  def test_by_hand(self):
    # f = 2 x - 3 over x = (1, 2): values -1 and 1, mean 0 and variance 1.
    x, y = jnp.array([[1.0], [2.0]]), jnp.array([-1.0, 1.0])
    f = us.LinearFeatures(jnp.array([[2.0]]), jnp.array([-3.0]))
    np.testing.assert_allclose(us.usefulness(f, x, y), [1.0])
    got = us.robust_usefulness(f, x, y, us.Ball(0.25))
    np.testing.assert_allclose(got, [0.5])
    np.testing.assert_allclose(us.usefulness(f, x, -y), [-1.0])

  @parameterized.parameters(
    (lambda x: x.reshape(len(x), -1)[:, 0] ** 2,),
    (lambda x: jnp.sin(x.reshape(len(x), -1)),),
    (_linear(3),),
  )
  def test_normalised_features(self, f):
    x, _ = _images()
    values = us.normalise(f, x)(x)
    np.testing.assert_allclose(values.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose((values**2).mean(axis=0), 1.0, rtol=1e-5)

  def test_normalised_linear_features_stay_linear(self):
    x, _ = _images()
    f = us.normalise(_linear(), x)
    self.assertIsInstance(f, us.LinearFeatures)

  @parameterized.parameters(("l2", 0.1), ("linf", 0.03))
  def test_attack_reaches_the_exact_value(self, norm, eps):
    x, y = _images()
    f = us.normalise(_linear(), x)
    exact = us.robust_margins(f, x, y, us.Ball(eps, norm))
    found = us.robust_margins(f, x, y, _maximize_fn(norm, eps))
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-4)

  def test_exact_value_is_that_of_the_worst_corner(self):
    # linf: all 512 corners of the ball; l2: against the weights.
    f, (x, y) = _linear(1), _images(4)
    corners = np.stack(np.meshgrid(*[[-0.1, 0.1]] * 9), -1).reshape(-1, 9)
    w = np.asarray(f.weights)[:, 0]
    clean = np.asarray(us.margins(f, x, y))[:, 0]
    worst = clean + np.min(np.asarray(y)[:, None] * (corners @ w), axis=1)
    got = us.robust_margins(f, x, y, us.Ball(0.1, "linf"))[:, 0]
    np.testing.assert_allclose(got, worst, rtol=1e-5)
    got = us.robust_margins(f, x, y, us.Ball(0.1))[:, 0]
    np.testing.assert_allclose(got, clean - 0.1 * np.linalg.norm(w), rtol=1e-5)

  def test_nonlinear_feature_with_a_known_minimum(self):
    # f = ||x - 1/2||^2 grows towards the outside: for y = -1 the worst delta
    # is radial, for y = +1 it goes to the centre.
    x, y = _images()

    def f(x):
      return jnp.square(x - 0.5).sum(axis=(1, 2, 3))

    eps = 0.05
    radius = jnp.sqrt(f(x))
    worst = jnp.where(y < 0, radius + eps, jnp.maximum(radius - eps, 0.0)) ** 2
    cfg = attacks.AttackConfig("l2", eps, eps / 10, 60)

    def maximize(objective_fn, x):
      keys = attacks.example_keys(jax.random.key(0), jnp.arange(len(x)))
      return attacks.maximize(objective_fn, x, keys, cfg).x_adv

    got = us.robust_usefulness(f, x, y, maximize)
    self.assertEqual(got.shape, ())
    np.testing.assert_allclose(got, (y * worst).mean(), atol=5e-4)

  def test_one_vs_rest_is_every_binary_problem(self):
    x, _ = _images()
    labels = jnp.arange(40) % 3
    y = us.one_vs_rest(labels, 3)
    f = us.normalise(_linear(), x)
    rho = us.usefulness(f, x, y)
    self.assertEqual(rho.shape, (2, 3))
    attack = _maximize_fn("l2", 0.1)
    ball = us.Ball(0.1)
    gamma = us.robust_usefulness(f, x, y, ball)
    found = us.robust_usefulness(f, x, y, attack)
    np.testing.assert_allclose(found, gamma, atol=1e-4)
    for k in range(3):
      alone = jnp.where(labels == k, 1.0, -1.0)
      np.testing.assert_allclose(
        rho[:, k], us.usefulness(f, x, alone), rtol=1e-5
      )
      np.testing.assert_allclose(
        gamma[:, k], us.robust_usefulness(f, x, alone, ball), rtol=1e-5
      )

  def test_estimate(self):
    out = us.estimate(jnp.array([1.0, 2.0, 3.0, 6.0]))
    np.testing.assert_allclose(out.value, 3.0)
    np.testing.assert_allclose(
      out.standard_error, np.std([1, 2, 3, 6], ddof=1) / 2, rtol=1e-6
    )

  def test_kinds(self):
    rho = us.Estimate(np.array([0.5, 0.5, 0.5, 0.1, 0.3]), np.full(5, 0.1))
    gamma = us.Estimate(np.array([0.3, 0.1, -1.0, 0.3, 0.2]), np.full(5, 0.05))
    got = us.classify(rho, gamma)
    self.assertEqual(
      list(got),
      [
        FeatureKind.ROBUST,
        FeatureKind.NON_ROBUST,  # Within two standard errors of 0.
        FeatureKind.NON_ROBUST,
        FeatureKind.USELESS,
        FeatureKind.ROBUST,
      ],
    )
    self.assertEqual(us.classify(rho, gamma, least_rho=0.2)[4], 0)

  def test_bad_input(self):
    x, y = _images()
    f = _linear()
    with self.assertRaisesRegex(ValueError, "must be a maximiser unless f is"):
      us.robust_usefulness(lambda x: f(x), x, y, us.Ball(0.1))
    with self.assertRaisesRegex(ValueError, "eps must be >= 0, got -0.1"):
      us.Ball(-0.1)
    with self.assertRaisesRegex(ValueError, "norm must be one of .* got 'l1'"):
      us.Ball(0.1, "l1")
    with self.assertRaisesRegex(ValueError, "f must vary over x, got .* 1.0"):
      us.normalise(lambda x: jnp.ones(len(x)), x)
    with self.assertRaisesRegex(
      ValueError, r"labels must lie in \[0, 3\), got 3"
    ):
      us.one_vs_rest(jnp.arange(4), 3)
    with self.assertRaisesRegex(ValueError, "y must have 40 rows, got 3"):
      us.usefulness(f, x, y[:3])
    with self.assertRaisesRegex(ValueError, "weights and bias must be"):
      us.LinearFeatures(jnp.ones((2, 3)), jnp.ones(2))


class DriverTest(parameterized.TestCase):
  def test_singular_vectors(self):
    x, y = _images(60)
    labels = np.asarray(y > 0, np.int32)
    table = usefulness.linear_usefulness(x, labels, 0.05)
    flat = np.asarray(x, np.float64).reshape(60, 9)
    _, singular, rows = np.linalg.svd(flat - flat.mean(axis=0))
    values = (flat - flat.mean(axis=0)) @ rows.T
    rho = np.abs((values / values.std(axis=0) * np.asarray(y)[:, None]).mean(0))
    np.testing.assert_allclose(table.rho.value, rho, rtol=1e-3, atol=1e-4)
    # A unit vector a has ||a||_Sigma = its singular value over sqrt(N).
    loss = 0.05 * np.sqrt(60) / singular
    np.testing.assert_allclose(
      table.gamma.value, rho - loss, rtol=1e-3, atol=1e-3
    )
    self.assertEqual(table.kind[0], FeatureKind.ROBUST)
    np.testing.assert_array_equal(table.label, np.ones(9))
    linf = usefulness.linear_usefulness(x, labels, 0.01, "linf")
    loss = 0.01 * np.abs(rows).sum(axis=1) * np.sqrt(60) / singular
    np.testing.assert_allclose(
      linf.gamma.value, rho - loss, rtol=1e-3, atol=1e-3
    )
    strict = usefulness.linear_usefulness(x, labels, 0.05, z=1e6)
    np.testing.assert_array_equal(strict.kind, [FeatureKind.USELESS] * 9)

  def test_directions_in_which_the_data_do_not_vary_are_none(self):
    x, y = _images(40)
    x = x.at[:, 2].set(x[:, 0])  # Three pixels are three others.
    table = usefulness.linear_usefulness(x, np.asarray(y > 0, np.int32), 0.05)
    self.assertEqual(table.rho.value.shape, (6,))

  def test_classes_compete_by_correlation(self):
    """By usefulness alone the most frequent class would win."""
    labels = np.repeat([0, 1, 2], (48, 6, 6))
    x = 0.4 + 0.1 * np.array([0.0, 1.0, 0.2])[labels]
    x = jnp.asarray(x.reshape(60, 1, 1, 1), jnp.float32)
    table = usefulness.linear_usefulness(x, labels, 0.01)
    np.testing.assert_array_equal(table.label, [1])

  def test_a_radius_beyond_the_box(self):
    x, y = _images(8)
    labels = np.asarray(y > 0, np.int32)
    with self.assertRaisesRegex(ValueError, "^eps is 99, larger than"):
      usefulness.linear_usefulness(x, labels, 99.0)
    with self.assertRaisesRegex(ValueError, "cfg.eps is 99, larger than"):
      usefulness.representation_usefulness(
        lambda variables, x: x.reshape(len(x), -1), None, x, labels,
        attacks.AttackConfig("l2", 99.0, 0.1, 1), jax.random.key(0),
      )  # fmt: skip

  def test_a_random_start_is_an_examples_own_and_a_dead_unit_stays_dead(self):
    """Off on every image, and on within the radius."""
    x, y = _images(12)
    labels = np.asarray(y > 0, np.int32)

    limit = float(x[:, 0, 0].max()) + 0.01

    def apply_fn(variables, x):
      off = jax.nn.relu(x[:, 0, 0] - limit)
      return jnp.concatenate([x.reshape(len(x), -1)[:, :2], off], axis=1)

    cfg = attacks.AttackConfig("l2", 0.2, 0.1, 0, start="random")
    whole, parts = (
      usefulness.representation_usefulness(
        apply_fn, None, x, labels, cfg, jax.random.key(0), batch_size=size
      )
      for size in (12, 4)
    )
    np.testing.assert_allclose(whole.gamma.value, parts.gamma.value, rtol=1e-5)
    self.assertEqual(float(whole.rho.value[2]), 0.0)
    self.assertEqual(float(whole.gamma.value[2]), 0.0)

  def test_representation_of_a_linear_map_is_exact(self):
    x, y = _images(50)
    labels = np.asarray(y > 0, np.int32)
    f = _linear(3)
    cfg = attacks.AttackConfig("l2", 0.05, 0.05, 10)

    def apply_fn(weights, x):
      flat = x.reshape(len(x), -1)
      return jnp.concatenate([flat @ weights, jnp.zeros((len(x), 1))], axis=1)

    def run(batch_size, coordinates=()):
      return usefulness.representation_usefulness(
        apply_fn, f.weights, x, labels, cfg, jax.random.key(0),
        batch_size=batch_size, coordinates=coordinates,
      )  # fmt: skip

    table = run(20)
    features = us.normalise(f, x)
    rho = us.usefulness(features, x, y)
    sign = jnp.sign(rho)
    gamma = jnp.abs(rho) - 0.05 * features.dual_norms("l2")
    np.testing.assert_allclose(table.rho.value[:3], rho * sign, atol=1e-4)
    np.testing.assert_allclose(table.gamma.value[:3], gamma, atol=1e-3)
    # The dead unit.
    self.assertEqual(float(table.rho.value[3]), 0.0)
    self.assertEqual(float(table.gamma.value[3]), 0.0)
    self.assertEqual(table.kind[3], FeatureKind.USELESS)
    some = run(50, coordinates=(2, 0))
    np.testing.assert_allclose(
      some.gamma.value, table.gamma.value[np.array([2, 0])], atol=1e-5
    )
    with self.assertRaisesRegex(ValueError, r"coordinates must .* got 4"):
      run(50, coordinates=(4,))

  def test_several_classes(self):
    x, _ = _images(60)
    labels = np.arange(60) % 3
    x = x + 0.1 * jax.nn.one_hot(labels, 9).reshape(60, 3, 3, 1)
    table = usefulness.representation_usefulness(
      lambda variables, x: x.reshape(len(x), -1), None, x, labels,
      attacks.AttackConfig("linf", 0.001, 0.001, 2), jax.random.key(0),
    )  # fmt: skip
    np.testing.assert_array_equal(table.label[:3], [0, 1, 2])
    with self.assertRaisesRegex(ValueError, "at least two classes"):
      usefulness.linear_usefulness(x, np.zeros(60, np.int32), 0.1)


if __name__ == "__main__":
  absltest.main()
