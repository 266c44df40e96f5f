"""Strict JAX for the whole suite: what can be an error is one."""

import jax
from absl import flags

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_debug_key_reuse", True)

# pytest has its own command line; absltest's temporary folders want flags.
flags.FLAGS.mark_as_parsed()
