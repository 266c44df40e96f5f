"""launch/slurm.sbatch under a real Slurm: one controller and two nodes, here.

Debian's `slurm-wlm munge`; skipped where they are not installed.
"""

import getpass
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest

import toy_study
import toys
from absl.testing import absltest

ROOT = pathlib.Path(__file__).parents[2]
# The daemons are outside an ordinary user's PATH.
DAEMONS = {
  name: shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
  for name in ("munged", "slurmctld", "slurmd")
}
CONFIG = """
from robust_features import recipes
import toy_study

def get_config():
  found = toy_study.config("")
  for name in set(found.stages) - {"base"}:
    del found.stages[name]
  found.table = ()
  found.stages.base.train.num_epochs = 200
  found.stages.base.train.eval_every_epochs = 200
  found.run.chunk_steps = 1
  return found
"""
SLURM = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthInfo=socket={root}/munge.socket
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/%n.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
GresTypes=gpu
SchedulerParameters=sched_interval=1
NodeName=node1 NodeAddr=127.0.0.1 NodeHostname={host} Port={ports[1]} \
CPUs=16 RealMemory=99999 Gres=gpu:1
NodeName=node2 NodeAddr=127.0.0.1 NodeHostname={host} Port={ports[2]} \
CPUs=16 RealMemory=99999 Gres=gpu:1
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def free_ports(number):
  """Returns ports that nobody listens on."""
  listeners = [socket.socket() for _ in range(number)]
  for listener in listeners:
    listener.bind(("127.0.0.1", 0))
  ports = [listener.getsockname()[1] for listener in listeners]
  for listener in listeners:
    listener.close()
  return ports


@unittest.skipUnless(
  all(DAEMONS.values()), "no Slurm: apt-get install slurm-wlm munge"
)
class SlurmTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.root = toys.folder(self)
    (self.root / "state").mkdir()
    key = self.root / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    host, ports = socket.gethostname(), free_ports(3)
    (self.root / "slurm.conf").write_text(
      SLURM.format(
        root=self.root, host=host, ports=ports, user=getpass.getuser()
      )
    )
    (self.root / "gres.conf").write_text(
      "NodeName=node[1-2] Name=gpu File=/dev/null\n"
    )
    self.environment = os.environ | {
      "SLURM_CONF": str(self.root / "slurm.conf"),
      "PYTHON": sys.executable,
      "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
      "JAX_NUM_CPU_DEVICES": "1",
      # Else the first node's name, which only Slurm knows.
      "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_ports(1)[0]}",
    }
    self.daemon(
      "munged", "--foreground", "--force",
      *(f"--{name}-file={self.root}/munge.{name}"
        for name in ("key", "pid", "log", "seed")),
      f"--socket={self.root}/munge.socket",
    )  # fmt: skip
    self.until(lambda: (self.root / "munge.socket").exists())
    self.daemon("slurmctld", "-D", "-i")
    self.daemon("slurmd", "-D", "-N", "node1")
    self.daemon("slurmd", "-D", "-N", "node2")
    self.until(lambda: self.call("sinfo", "-h", "-t", "idle", "-o%D") == "2")

  def daemon(self, name, *arguments):
    """Starts a daemon, which ends with the test."""
    with (self.root / f"{name}.out").open("ab") as out:
      process = subprocess.Popen(
        [DAEMONS[name], *arguments], stdout=out, stderr=out,
        env=self.environment,
      )  # fmt: skip
    self.addCleanup(process.wait)
    self.addCleanup(process.terminate)

  def call(self, *command, check=False):
    """Runs one of Slurm's commands; returns what it prints."""
    return subprocess.run(
      command, cwd=ROOT, env=self.environment, check=check, timeout=60,
      text=True, capture_output=True,
    ).stdout.strip()  # fmt: skip

  def until(self, true, seconds=120):
    """Waits until a call returns true."""
    deadline = time.monotonic() + seconds
    while not true():
      self.assertLess(time.monotonic(), deadline, self.log())
      time.sleep(0.1)

  def log(self):
    """Returns what the job printed so far."""
    path = self.root / "job.log"
    return path.read_text() if path.exists() else "no job"

  def submit(self, *flags, options=()):
    """Submits the script; returns the job's number."""
    return self.call(
      "sbatch", "--parsable", f"--output={self.root}/job.log", *options,
      "launch/slurm.sbatch", str(self.root / "study.py"),
      f"--workdir={self.root}/run", *flags, check=True,
    )  # fmt: skip

  def state(self, job):
    """Returns what Slurm says of a job, such as PENDING."""
    found = self.call("scontrol", "show", "job", job, "-o").split()
    fields = dict(field.partition("=")[::2] for field in found)
    return fields.get("JobState"), fields.get("Restarts")

  def write_study(self):
    """Writes a study of one stage and its images."""
    (self.root / "study.py").write_text(CONFIG)
    toy_study.write_npz(self.root)

  def test_stopped_and_killed_it_goes_on(self):
    """Twice queued again, on two nodes, and finished with one study's numbers.

    The signal is what Slurm sends before the time is up; the shortest limit is
    a minute.
    """
    self.write_study()
    job = self.submit(
      f"--config.data.D.data_dir={self.root}", options=("--nodes=2",)
    )
    self.disturb(job, 1, lambda: self.call("scancel", "--signal=TERM", job))
    self.disturb(job, 2, lambda: os.kill(self.tasks()[-1], signal.SIGKILL))
    self.until(lambda: self.state(job) == ("COMPLETED", "2"))
    log = self.log()
    self.assertEqual(log.count("stopped by SIGTERM"), 2, log)  # Both tasks.
    statuses = re.findall(r"^status (\d+): queued again", log, re.MULTILINE)
    self.assertLen(statuses, 2)
    self.assertEqual(statuses[0], "143")
    self.assertIn(statuses[1], ("134", "137"))
    found = json.loads((self.root / "run" / "results.json").read_text())
    self.assertEqual(found["devices"], "2 x cpu")
    steps = [json.loads(line)["step"] for line in self.metrics().open()]
    self.assertEqual(steps, [*range(1, 801), 800])  # And the evaluation's.

  def metrics(self):
    """Returns where the steps are logged."""
    return self.root / "run" / "base" / "metrics.jsonl"

  def disturb(self, job, times, call):
    """Calls once the job trains, and waits until it is queued again."""
    begun = self.metrics().stat().st_size if self.metrics().exists() else 0
    self.until(
      lambda: self.metrics().exists() and self.metrics().stat().st_size > begun
    )
    call()
    self.until(lambda: self.state(job) == ("PENDING", str(times)))
    # Slurm would wait two minutes.
    self.call("scontrol", "update", f"JobId={job}", "StartTime=now")

  def tasks(self):
    """Returns the processes of main."""
    found = subprocess.run(
      ["pgrep", "-f", f"^{sys.executable} .*{self.root}/run"],
      capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [int(number) for number in found.stdout.split()]

  def test_an_error_ends_it(self):
    """Two tasks on one node: one study, one error, not queued again."""
    self.write_study()
    job = self.submit(
      f"--config.data.D.data_dir={self.root}/no",
      options=("--ntasks-per-node=2", "--cpus-per-task=2"),
    )
    self.until(lambda: self.state(job)[0] not in ("PENDING", "RUNNING"))
    self.assertEqual(self.state(job), ("FAILED", "0"), self.log())
    self.assertIn("--distributed", self.log())
    self.assertIn("error: ", self.log())


if __name__ == "__main__":
  absltest.main()
