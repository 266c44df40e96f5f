#!/usr/bin/env bash
# Runs a study on all hosts of a Cloud TPU slice.
#
#   launch/tpu_pod.sh [--dry_run] NAME ZONE TYPE CONFIG [main's flags ...]
#   launch/tpu_pod.sh --dry_run study us-west4-a v5litepod-16 \
#     configs/cifar_robust.py --config.seed=1
#
# Creates the slice, waits for it, installs, runs detached from ssh, follows,
# fetches the tables and figures, and deletes the slice, also after a failure.
# Safe to run twice: what is there is used again, and the study goes on where it
# stopped. --dry_run prints the commands, fit to be pasted, and executes none.
#
# Environment:
#   WORKDIR  a folder that every host sees, such as a Filestore mount; wanted
#            for more than one host, since local disks are not shared
#   REPO     what the hosts clone (default: this clone's origin)
#   BRANCH   branch or tag of it (default: main)
#   PREPARE  what the hosts run first, such as a command that prepares data
#   VERSION  runtime image (default: the generation's own)
#   SPOT     set for a spot slice
#   KEEP     set to keep the slice afterwards
#   POLL     seconds between two looks (default: 30)
set -euo pipefail

dry_run=""
if [[ "${1:-}" == "--dry_run" ]]; then
  dry_run=1
  shift
fi
if (($# < 4)); then
  echo "usage: $0 [--dry_run] NAME ZONE TYPE CONFIG [flags ...]" >&2
  exit 1
fi
name=$1 zone=$2 type=$3 config=$4
shift 4

fail() {
  echo "error: $*" >&2
  exit 1
}
here=$(cd "$(dirname "$0")/.." && pwd)
[[ -f "$here/${config%%:*}" ]] || fail "there is no config file ${config%%:*}"
case "$type" in
  v6e-*) default=v2-alpha-tpuv6e ;;
  v5p-*) default=v2-alpha-tpuv5 ;;
  v5litepod-* | v5e-*) default=v2-alpha-tpuv5-lite ;;
  v2-* | v3-* | v4-*) default=tpu-ubuntu2204-base ;;
  *) fail "TYPE must be such as v4-32, v5litepod-16, v5p-8 or v6e-8, got $type" ;;
esac
version=${VERSION:-$default}
repo=${REPO:-$(git -C "$here" remote get-url origin 2>/dev/null || echo REPO)}
branch=${BRANCH:-main}
workdir=${WORKDIR:-}
[[ -n "$workdir" ]] || fail "WORKDIR must name a folder that all hosts share"
[[ "$workdir" != *://* ]] || fail "WORKDIR must be a folder, got $workdir"
poll=${POLL:-30}
tpu=(gcloud compute tpus)
place=(--zone "$zone")

say() {
  printf '%q ' "$@"
  echo
  if [[ -z "$dry_run" ]]; then "$@"; fi
}
on_hosts() {  # on_hosts WORKER COMMAND
  say "${tpu[@]}" tpu-vm ssh "$name" "${place[@]}" --worker="$1" --command="$2"
}
state() {
  "${tpu[@]}" queued-resources describe "$name" "${place[@]}" \
    --format='value(state.state)' 2>/dev/null || echo MISSING
}
delete() {
  if [[ -z "${KEEP:-}" ]]; then
    say "${tpu[@]}" queued-resources delete "$name" "${place[@]}" \
      --force --quiet
  fi
}

create=("${tpu[@]}" queued-resources create "$name" --node-id "$name"
  "${place[@]}" --accelerator-type "$type" --runtime-version "$version")
if [[ -n "${SPOT:-}" ]]; then create+=(--spot); fi
if [[ -n "$dry_run" || "$(state)" == MISSING ]]; then
  say "${create[@]}"
fi
# From here on the slice costs money, whatever happens.
trap delete EXIT
if [[ -z "$dry_run" ]]; then
  until now=$(state) && [[ "$now" == ACTIVE ]]; do
    case "$now" in
      FAILED | SUSPENDED | MISSING) fail "the request for $name is $now" ;;
    esac
    sleep "$poll"
  done
fi

# The image's own Python is too old; uv brings one. The libtpu is the one that
# the pinned jax names.
on_hosts all "set -e; [ -d robust_features ] || \
git clone --quiet --depth 1 --branch $branch $repo robust_features; \
cd robust_features; python3 -m pip install --quiet --user uv; \
[ -x .venv/bin/python ] || python3 -m uv venv --quiet --python 3.11 .venv; \
V=\$(sed -n 's/^jax==//p' requirements.lock); python3 -m uv pip install --quiet \
--python .venv/bin/python -r requirements.lock \"jax[tpu]==\$V\"; \
python3 -m uv pip install --quiet --python .venv/bin/python --no-deps -e ."
if [[ -n "${PREPARE:-}" ]]; then
  on_hosts all "cd robust_features; $PREPARE"
fi

# Detached: a dropped connection ends no run. One that goes on is left alone.
arguments=$(printf ' %q' "--config=$config" "--workdir=$workdir" "$@")
script=".venv/bin/python -m robust_features.main --distributed$arguments \
>>run.log 2>&1; echo \$? >status"
on_hosts all "cd robust_features; if ! kill -0 \$(cat run.pid) 2>/dev/null; \
then rm -f status; nohup bash -c $(printf '%q' "$script") >/dev/null 2>&1 & \
echo \$! >run.pid; fi"
follow="cd robust_features; tail -n 1 run.log >&2; cat status 2>/dev/null \
|| echo running"
if [[ -n "$dry_run" ]]; then
  on_hosts 0 "$follow"
  status=0
else
  status=running
  while [[ "$status" == running ]]; do
    sleep "$poll"
    status=$("${tpu[@]}" tpu-vm ssh "$name" "${place[@]}" --worker=0 \
      --command="$follow") || status=running
    case "$(state)" in
      FAILED | SUSPENDED | MISSING) fail "the slice $name was taken away" ;;
    esac
  done
fi
say mkdir -p "runs/$name"
say "${tpu[@]}" tpu-vm scp --recurse "$name:$workdir/results.*" \
  "$name:$workdir/figures" "runs/$name" "${place[@]}" --worker=0 || true
exit "$status"
