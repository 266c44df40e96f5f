"""The shell scripts of launch/: printed, and run against stand-ins."""

import os
import pathlib
import shlex
import subprocess
import tempfile

from absl.testing import absltest, parameterized

ROOT = pathlib.Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
GOLDEN = ROOT / "tests" / "golden"

# Answers as gcloud does: the states of `states` in turn, the last for ever.
# What is to be run on a host runs here, in $HOSTS.
GCLOUD = r"""#!/usr/bin/env bash
echo "$*" >> "$HOSTS/calls"
case "$*" in
  *describe*)
    state=$(head -n 1 "$HOSTS/states")
    if (($(wc -l < "$HOSTS/states") > 1)); then sed -i 1d "$HOSTS/states"; fi
    if [[ "$state" == MISSING ]]; then exit 1; fi
    echo "$state" ;;
  *"ssh"*) all="$*"; cd "$HOSTS" && bash -c "${all##*--command=}" ;;
esac
"""
# A host's Python: installs nothing and ends with the status of `result`.
PYTHON = r"""#!/usr/bin/env bash
case "$*" in
  *robust_features.main*) printf '%s\n' "$@" > "$HOSTS/arguments"
    exit "$(cat "$HOSTS/result")" ;;
esac
"""


def executable(path, text):
  """Writes a program."""
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)
  path.chmod(0o755)


def run(*command, **environment):
  """Runs a command in the repository; returns the finished process."""
  return subprocess.run(
    [str(part) for part in command], cwd=ROOT, capture_output=True, text=True,
    check=False, timeout=60, env=os.environ | environment,
  )  # fmt: skip


class TpuPodTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    made = self.enterContext(tempfile.TemporaryDirectory())
    self.hosts = pathlib.Path(made)
    executable(self.hosts / "bin" / "gcloud", GCLOUD)
    executable(self.hosts / "bin" / "python3", PYTHON)
    executable(self.hosts / "robust_features/.venv/bin/python", PYTHON)
    (self.hosts / "robust_features" / "requirements.lock").write_text("")

  def pod(self, states, result=0, flags=(), **environment):
    """Runs the script; returns the finished process and gcloud's calls."""
    (self.hosts / "states").write_text("\n".join(states) + "\n")
    (self.hosts / "result").write_text(str(result))
    found = run(
      "bash", LAUNCH / "tpu_pod.sh", "study", "zone", "v4-16",
      "configs/cifar_robust.py", *flags, PATH=f"{self.hosts / 'bin'}:"
      + os.environ["PATH"], HOSTS=str(self.hosts), POLL="0.1",
      WORKDIR="/shared/run", REPO="repo", **environment,
    )  # fmt: skip
    calls = (self.hosts / "calls").read_text()
    words = ("create", "describe", "ssh", "scp", "delete")
    verbs = [
      w for call in calls.splitlines() for w in words if f" {w} " in call
    ]
    return found, [v for v in verbs if v != "describe"]

  def test_printed(self):
    found = run(
      "bash", LAUNCH / "tpu_pod.sh", "--dry_run", "study", "us-west4-a",
      "v5litepod-16", "configs/cifar_robust.py", "--config.seed=1",
      WORKDIR="/mnt/a b", REPO="https://host/repo", SPOT="1", PATH=(
        os.environ["PATH"]
      ), PREPARE="prepare data",
    )  # fmt: skip
    self.assertEqual(found.returncode, 0, found.stderr)
    golden = GOLDEN / "tpu_pod.txt"
    self.assertEqual(found.stdout, golden.read_text(), f"see {golden}")
    for line in found.stdout.splitlines():
      self.assertIn(shlex.split(line)[0], ("gcloud", "mkdir"))

  def test_to_the_end(self):
    flags = ("--config.data.D.data_dir=/a b", "--config.x='q'")
    found, verbs = self.pod(
      ["MISSING", "WAITING_FOR_RESOURCES", "ACTIVE"], flags=flags
    )
    self.assertEqual(found.returncode, 0, found.stderr + found.stdout)
    self.assertEqual(verbs[:3] + verbs[-2:],
                     ["create", "ssh", "ssh", "scp", "delete"])  # fmt: skip
    self.assertEqual(
      (self.hosts / "arguments").read_text().splitlines(),
      ["-m", "robust_features.main", "--distributed",
       "--config=configs/cifar_robust.py", "--workdir=/shared/run", *flags],
    )  # fmt: skip

  def test_what_is_there_is_used_again(self):
    _, verbs = self.pod(["ACTIVE"])
    self.assertNotIn("create", verbs)

  @parameterized.parameters("FAILED", "SUSPENDED")
  def test_no_slice(self, state):
    found, verbs = self.pod(["MISSING", state])
    self.assertEqual(found.returncode, 1)
    self.assertIn(f"error: the request for study is {state}\n", found.stderr)
    self.assertEqual(verbs, ["create", "delete"])

  @parameterized.parameters(1, 134)
  def test_a_run_that_fails_gives_the_slice_back(self, status):
    found, verbs = self.pod(["ACTIVE"], result=status)
    self.assertEqual(found.returncode, status)
    self.assertEqual(verbs[-1], "delete")

  def test_a_slice_that_is_taken_away(self):
    found, verbs = self.pod(["ACTIVE", "ACTIVE", "SUSPENDED"])
    self.assertEqual(found.returncode, 1, found.stdout)
    self.assertIn("the slice study was taken away", found.stderr)
    self.assertEqual(verbs[-1], "delete")

  def test_kept_if_wanted(self):
    _, verbs = self.pod(["ACTIVE"], KEEP="1")
    self.assertNotIn("delete", verbs)

  @parameterized.parameters(
    (("name",), {}, "usage:"),
    (("n", "z", "v9-8", "configs/quickstart.py"), {}, "TYPE must be such as"),
    (("n", "z", "v4-8", "configs/no.py"), {}, "there is no config file"),
    (("n", "z", "v4-8", "configs/quickstart.py"), {"WORKDIR": ""},
     "WORKDIR must name a folder"),
    (("n", "z", "v4-8", "configs/quickstart.py"), {"WORKDIR": "gs://b"},
     "WORKDIR must be a folder, got gs://b"),
  )  # fmt: skip
  def test_bad_calls(self, arguments, environment, message):
    found = run(
      "bash", LAUNCH / "tpu_pod.sh", "--dry_run", *arguments, **environment
    )
    self.assertEqual(found.returncode, 1)
    self.assertIn(message, found.stderr)
    self.assertEqual(found.stdout, "")


class SlurmTest(parameterized.TestCase):
  def slurm(self, status, said="", **environment):
    """Runs the script with an srun that ends with a status."""
    made = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    executable(
      made / "srun",
      f'#!/bin/sh\necho srun "$@"\necho "{said}" >&2\nexit {status}\n',
    )
    executable(made / "scontrol", '#!/bin/sh\necho scontrol "$@"\n')
    return run(
      "bash", LAUNCH / "slurm.sbatch", "configs/quickstart.py:smoke", "--a=b c",
      PATH=f"{made}:{os.environ['PATH']}", SLURM_JOB_ID="42", **environment,
    )  # fmt: skip

  @parameterized.parameters((0, False), (1, False), (143, True), (134, True))
  def test_queued_again_where_a_restart_helps(self, status, again):
    found = self.slurm(status)
    self.assertEqual(found.returncode, status, found.stderr)
    self.assertEqual("scontrol requeue 42\n" in found.stdout, again)

  def test_an_error_of_one_task_is_not_queued_again(self):
    """srun ends the others by SIGTERM, and the highest status is its own."""
    said = "srun: error: node1: task 0: Exited with exit code 1"
    found = self.slurm(143, said)
    self.assertEqual(found.returncode, 1)
    self.assertIn(said, found.stderr)
    self.assertNotIn("scontrol", found.stdout)

  @parameterized.parameters(("1", False), ("2", True))
  def test_tasks_are_one_study_wherever_they_run(self, tasks, together):
    found = self.slurm(0, SLURM_NTASKS=tasks, SLURM_JOB_NUM_NODES="1")
    self.assertEqual("--distributed" in found.stdout, together)

  def test_printed(self):
    found = run(
      "bash", LAUNCH / "slurm.sbatch", "--dry_run", "configs/cifar_robust.py",
      "--config.data.D.data_dir=/a b", SLURM_NTASKS="8",
    )  # fmt: skip
    golden = GOLDEN / "slurm.txt"
    self.assertEqual(found.stdout, golden.read_text(), f"see {golden}")

  def test_the_config_must_be_there(self):
    found = run("bash", LAUNCH / "slurm.sbatch", "--dry_run", "configs/no.py")
    self.assertEqual(found.returncode, 1)
    self.assertEqual(
      found.stderr, "error: there is no config file configs/no.py\n"
    )

  def test_what_the_scheduler_reads(self):
    lines = (LAUNCH / "slurm.sbatch").read_text().splitlines()
    options = [line.split()[1] for line in lines if line.startswith("#SBATCH")]
    # To the tasks: B: would send it to the shell, and srun kills on a signal.
    self.assertIn("--signal=TERM@90", options)
    self.assertIn("--requeue", options)
    self.assertIn("--open-mode=append", options)


class SkyTest(absltest.TestCase):
  def test_nodes_are_one_study(self):
    """Runs the file's own `run` with a Python that shows its arguments."""
    text = (LAUNCH / "sky.yaml").read_text()
    script = text.partition("\nrun: |\n")[2]
    made = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    executable(made / ".venv/bin/python", "#!/bin/sh\necho $@\n")
    environment = os.environ | {
      "CONFIG": "configs/quickstart.py", "FLAGS": "--config.seed=1",
      "WORKDIR": "/shared", "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
      "SKYPILOT_NODE_RANK": "1",
    }  # fmt: skip
    for nodes, together in (
      ("1", ""),
      ("2", " --coordinator=10.0.0.1:8476 --num_processes=2 --process_id=1"),
    ):
      found = subprocess.run(
        ["bash", "-c", script], cwd=made, capture_output=True, text=True,
        env=environment | {"SKYPILOT_NUM_NODES": nodes}, check=True,
      )  # fmt: skip
      self.assertEqual(
        found.stdout,
        "-m robust_features.main --config=configs/quickstart.py"
        f"{together} --config.seed=1 --workdir=/shared/quickstart\n",
      )


if __name__ == "__main__":
  absltest.main()
