"""What one process can know of several; several are in tests/processes_test."""

import os

from absl.testing import absltest, parameterized

from robust_features.runtime import processes


class AloneTest(parameterized.TestCase):
  def test_one_process_agrees_with_itself_and_waits_for_nobody(self):
    self.assertFalse(processes.several())
    self.assertTrue(processes.is_first())
    self.assertEqual([processes.agree(v) for v in (True, False, 7)], [1, 0, 7])
    processes.wait("here")

  @parameterized.parameters(
    (("localhost:1", None, None), "go together, got 'localhost:1', None and"),
    ((None, 2, 0), "go together, got None, 2 and 0"),
    (("localhost", 2, 0), "--coordinator must be HOST:PORT, got 'localhost'"),
    (("localhost:x", 2, 0), "--coordinator must be HOST:PORT"),
    ((":80", 2, 0), "--coordinator must be HOST:PORT"),
    (("localhost:65536", 2, 0), "--coordinator must be HOST:PORT"),
    (("localhost:80", 2, 2), r"--process_id must be in \[0, 2\), .* got 2"),
    (("localhost:80", 2, -1), r"--process_id must be in \[0, 2\), .* got -1"),
    (("localhost:80", 0, 0), r"--num_processes must be at least 1, got 0"),
  )
  def test_what_does_not_fit_together(self, given, message):
    with self.assertRaisesRegex(ValueError, message):
      processes.join(*given)

  def test_no_cluster(self):
    self.assertNotIn("JAX_COORDINATOR_ADDRESS", os.environ)
    with self.assertRaisesRegex(
      ValueError, "JAX knows no cluster here .*; give --coordinator=HOST:PORT"
    ):
      processes.join()


if __name__ == "__main__":
  absltest.main()
