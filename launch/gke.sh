#!/usr/bin/env bash
# Runs a study on TPU slices of a GKE cluster, through xpk (1.16).
#
#   launch/gke.sh [--dry_run] NAME CLUSTER TYPE CONFIG [main's flags ...]
#   launch/gke.sh --dry_run study my-cluster v5litepod-16 \
#     configs/cifar_robust.py --config.seed=1
#
# xpk packs this checkout into an image, and Kubernetes runs it on every host of
# the slices; all of them are one study. A host that was preempted ends with
# status 143, one that lost another with 128 or above: the set is started again
# and goes on from what is saved. After 1, the user's error, it is not.
# --dry_run prints the command, fit to be pasted, and executes nothing.
#
# Environment:
#   WORKDIR   a folder that every host sees; wanted. Below the mount point of
#             STORAGE, a Filestore volume that xpk knows (`xpk storage attach`)
#   STORAGE   its name
#   PROJECT, ZONE  of the cluster (default: gcloud's own)
#   SLICES    how many (default: 1)
#   PREPARE   what the hosts run first, such as a command that prepares data
#   RESTARTS  at most so many (default: 50)
#   SPOT      set for spot machines
#   IMAGE     what is built upon (default: python:3.11)
set -euo pipefail

dry_run=""
if [[ "${1:-}" == "--dry_run" ]]; then
  dry_run=1
  shift
fi
if (($# < 4)); then
  echo "usage: $0 [--dry_run] NAME CLUSTER TYPE CONFIG [flags ...]" >&2
  exit 1
fi
name=$1 cluster=$2 type=$3 config=$4
shift 4

fail() {
  echo "error: $*" >&2
  exit 1
}
here=$(cd "$(dirname "$0")/.." && pwd)
[[ -f "$here/${config%%:*}" ]] || fail "there is no config file ${config%%:*}"
workdir=${WORKDIR:-}
[[ -n "$workdir" ]] || fail "WORKDIR must name a folder that all hosts share"
[[ "$workdir" != *://* ]] || fail "WORKDIR must be a folder, got $workdir"

# The libtpu is the one that the pinned jax names.
jax=$(sed -n 's/^jax==//p' "$here/requirements.lock")
run="python -m pip install --quiet -r requirements.lock 'jax[tpu]==$jax'"
run+=" && python -m pip install --quiet --no-deps -e ."
if [[ -n "${PREPARE:-}" ]]; then run+=" && $PREPARE"; fi
# xpk passes signals to the shell that it starts: main must take its place.
run+=" && exec python -m robust_features.main --distributed"
run+=$(printf ' %q' "--config=$config" "--workdir=$workdir" "$@")

command=(xpk workload create --workload="$name" --cluster="$cluster"
  --tpu-type="$type" --num-slices="${SLICES:-1}"
  --base-docker-image="${IMAGE:-python:3.11}" --script-dir="$here"
  --max-restarts="${RESTARTS:-50}"
  # Enough to save, beside the 30 s in which a lost host is noticed.
  --termination-grace-period-seconds=120 --command="$run")
if [[ -n "${PROJECT:-}" ]]; then command+=(--project="$PROJECT"); fi
if [[ -n "${ZONE:-}" ]]; then command+=(--zone="$ZONE"); fi
if [[ -n "${STORAGE:-}" ]]; then command+=(--storage="$STORAGE"); fi
if [[ -n "${SPOT:-}" ]]; then command+=(--spot); fi
# Flags of xpk for trying it, such as --dry-run.
if [[ -n "${XPK_FLAGS:-}" ]]; then
  read -ra flags <<< "$XPK_FLAGS"
  command+=("${flags[@]}")
fi
printf '%q ' "${command[@]}"
echo
if [[ -z "$dry_run" ]]; then
  command -v xpk >/dev/null || fail "xpk is not on PATH: pip install xpk==1.16"
  exec "${command[@]}"
fi
