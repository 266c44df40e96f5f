"""What starts on clusters that are not here, through the tools' own parsers.

`make .venv-xpk .venv-sky` installs them; XPK and SKY name others.
"""

import json
import os
import pathlib
import signal
import subprocess
import tempfile
import textwrap
import time
import unittest

from absl.testing import absltest, parameterized

ROOT = pathlib.Path(__file__).parents[2]
GKE = ROOT / "launch" / "gke.sh"
XPK = pathlib.Path(os.environ.get("XPK", ROOT / ".venv-xpk/bin/xpk"))
SKY = pathlib.Path(os.environ.get("SKY", ROOT / ".venv-sky/bin/sky"))
# Installs nothing; main works until it is asked to stop, and saves.
PYTHON = """#!/usr/bin/env bash
case "$*" in
  *robust_features.main*)
    printf '%s\\n' "$@" > "$HOSTS/arguments"
    trap 'echo saved > "$HOSTS/saved"; exit 143' TERM
    for _ in $(seq 100); do sleep 0.1; done ;;
esac
"""


def gke(*arguments, **environment):
  """Runs the script; returns the finished process."""
  return subprocess.run(
    ["bash", GKE, *arguments], cwd=ROOT, capture_output=True, text=True,
    check=False, timeout=120, env=os.environ | environment,
  )  # fmt: skip


class GkeTest(parameterized.TestCase):
  def test_printed(self):
    found = gke(
      "--dry_run", "study", "cluster", "v5litepod-16",
      "configs/cifar_robust.py", "--config.seed=1", WORKDIR="/mnt/a b",
      SPOT="1", STORAGE="nfs", PROJECT="p", ZONE="z", PREPARE="prepare data",
    )  # fmt: skip
    self.assertEqual(found.returncode, 0, found.stderr)
    golden = ROOT / "tests" / "golden" / "gke.txt"
    printed = found.stdout.replace(str(ROOT), "REPO")
    self.assertEqual(printed, golden.read_text(), f"see {golden}")

  @parameterized.parameters(
    (("name",), {}, "usage:"),
    (("n", "c", "v4-8", "configs/no.py"), {}, "there is no config file"),
    (("n", "c", "v4-8", "configs/quickstart.py"), {},
     "WORKDIR must name a folder"),
    (("n", "c", "v4-8", "configs/quickstart.py"), {"WORKDIR": "gs://b"},
     "WORKDIR must be a folder, got gs://b"),
  )  # fmt: skip
  def test_bad_calls(self, arguments, environment, message):
    found = gke("--dry_run", *arguments, **environment)
    self.assertEqual(found.returncode, 1)
    self.assertIn(message, found.stderr)
    self.assertEqual(found.stdout, "")

  def test_without_xpk(self):
    found = gke(
      "n", "c", "v4-8", "configs/quickstart.py", WORKDIR="/a",
      PATH="/usr/bin:/bin",
    )  # fmt: skip
    self.assertEqual(found.returncode, 1)
    self.assertIn("error: xpk is not on PATH: pip install", found.stderr)


@unittest.skipUnless(XPK.exists(), "no xpk: make .venv-xpk")
class ManifestTest(absltest.TestCase):
  """What xpk makes of the command for Kubernetes, which is not here."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.made = pathlib.Path(
      cls.enterClassContext(tempfile.TemporaryDirectory())
    )
    manifest = cls.made / "manifest.yaml"
    found = gke(
      "study", "cluster", "v4-16", "configs/quickstart.py", "--config.x='q'",
      WORKDIR="/mnt/a b", PROJECT="p", ZONE="us-central2-b",
      PATH=f"{XPK.parent}:{os.environ['PATH']}", HOME=str(cls.made),
      XPK_FLAGS="--dry-run --skip-validation --project-number=1 "
      f"--output-manifest-file={manifest}",
    )  # fmt: skip
    if found.returncode:
      raise AssertionError(found.stdout + found.stderr)
    cls.text = manifest.read_text()

  def test_restarts(self):
    """After a signal and a lost peer, and not after the user's error."""
    (values,) = [
      line for line in self.text.splitlines() if line.strip()[:7] == "values:"
    ]
    self.assertIn("operator: NotIn", self.text)  # These do not fail the set.
    restarted = json.loads(values.partition(":")[2])
    self.assertContainsSubset({128, 134, 137, 143}, restarted)
    self.assertNoCommonElements({0, 1, 2}, restarted)
    self.assertIn("maxRestarts: 50\n", self.text)

  def test_grace_and_hosts(self):
    self.assertIn("terminationGracePeriodSeconds: 120\n", self.text)
    self.assertIn("parallelism: 2 ", self.text)

  def test_a_signal_reaches_main_and_its_status_the_cluster(self):
    """Runs the container's own command, with stand-ins for what it starts."""
    script = self.text.partition("- |\n")[2].partition("resources:\n")[0]
    script = textwrap.dedent(script).replace("sleep 5", "sleep 0.1")
    python = self.made / "bin" / "python"
    python.parent.mkdir()
    python.write_text(PYTHON)
    python.chmod(0o755)
    process = subprocess.Popen(
      ["bash", "-c", script], cwd=self.made, text=True,
      stdout=subprocess.PIPE, env=os.environ | {
        "HOSTS": str(self.made),
        "PATH": f"{python.parent}:{os.environ['PATH']}",
      },
    )  # fmt: skip
    arguments = self.made / "arguments"
    deadline = time.monotonic() + 30
    while not (arguments.exists() and arguments.read_text().count("\n") > 4):
      self.assertLess(time.monotonic(), deadline)
      time.sleep(0.05)
    time.sleep(0.2)  # Its trap is set.
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    self.assertEqual(process.returncode, 143, out)
    self.assertTrue((self.made / "saved").exists())
    self.assertEqual(
      arguments.read_text().splitlines(),
      ["-m", "robust_features.main", "--distributed",
       "--config=configs/quickstart.py", "--workdir=/mnt/a b",
       "--config.x='q'"],
    )  # fmt: skip


@unittest.skipUnless(SKY.exists(), "no SkyPilot: make .venv-sky")
class SkyTest(absltest.TestCase):
  def test_the_file_as_its_parser_reads_it(self):
    script = """if True:
      import json, sky
      task = sky.Task.from_yaml("launch/sky.yaml")
      found = [r.job_recovery for r in task.resources]
      gpus = sorted(str(r.accelerators) for r in task.resources)
      print(json.dumps({
        "nodes": task.num_nodes, "recovery": found, "gpus": gpus,
        "envs": task.envs, "run": task.run,
      }))
    """
    with tempfile.TemporaryDirectory() as home:
      found = subprocess.run(
        [SKY.parent / "python", "-c", script], cwd=ROOT, capture_output=True,
        text=True, check=True, timeout=120, env=os.environ | {"HOME": home},
      )  # fmt: skip
    task = json.loads(found.stdout.splitlines()[-1])
    self.assertEqual(task["nodes"], 1)
    self.assertLen(task["gpus"], 3)
    for recovery in task["recovery"]:
      codes = recovery["recover_on_exit_codes"]
      self.assertContainsSubset({134, 137, 143}, codes)
      self.assertNotIn(1, codes)
    self.assertEqual(task["envs"]["CONFIG"], "configs/cifar_robust.py")
    self.assertIn("--num_processes=$SKYPILOT_NUM_NODES", task["run"])


if __name__ == "__main__":
  absltest.main()
