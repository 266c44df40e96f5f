#!/usr/bin/env bash
# Runs a study on all hosts of a Cloud TPU slice.
#
#   launch/tpu_pod.sh [--dry_run] NAME ZONE TYPE CONFIG [main's flags ...]
#   launch/tpu_pod.sh --dry_run study us-west4-a v5litepod-16 \
#     configs/cifar_robust.py --config.seed=1
#
# --dry_run prints the commands and executes none. It is all that was ever run
# of this file: no cloud was at hand when it was written.
#
# Environment:
#   REPO     what the hosts clone (default: this clone's origin)
#   BRANCH   branch or tag of it (default: main)
#   WORKDIR  a folder that every host sees, such as a Filestore mount; local
#            disks do not do for more than one host (default: ~/runs/NAME)
#   VERSION  runtime image (default: tpu-ubuntu2204-base)
#   KEEP     set to keep the slice afterwards
#
# A slice of one host needs none of this: main uses all local devices.
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

here=$(cd "$(dirname "$0")/.." && pwd)
repo=${REPO:-$(git -C "$here" remote get-url origin 2>/dev/null || echo REPO)}
branch=${BRANCH:-main}
workdir=${WORKDIR:-"~/runs/$name"}
version=${VERSION:-tpu-ubuntu2204-base}

say() {
  printf '%s\n' "$*"
  if [[ -z "$dry_run" ]]; then "$@"; fi
}
on_all_hosts() {
  say gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker=all \
    --command="$1"
}
state() {
  gcloud compute tpus queued-resources describe "$name" --zone "$zone" \
    --format='value(state.state)'
}

say gcloud compute tpus queued-resources create "$name" --node-id "$name" \
  --zone "$zone" --accelerator-type "$type" --runtime-version "$version"
if [[ -z "$dry_run" ]]; then
  until [[ "$(state)" == ACTIVE ]]; do
    case "$(state)" in
      FAILED | SUSPENDED) echo "error: the request is $(state)" >&2; exit 1 ;;
    esac
    sleep 30
  done
fi

on_all_hosts "git clone --depth 1 --branch $branch $repo robust_features \
&& python3 -m pip install --quiet -r robust_features/requirements.lock \
&& python3 -m pip install --quiet 'jax[tpu]' --no-deps libtpu \
&& python3 -m pip install --quiet --no-deps -e robust_features"
# The same command goes on where it stopped, so a preempted slice loses little.
on_all_hosts "cd robust_features && python3 -m robust_features.main \
--distributed --config=$config$(printf ' %q' "$@") --workdir=$workdir"

if [[ -z "${KEEP:-}" ]]; then
  say gcloud compute tpus queued-resources delete "$name" --zone "$zone" \
    --force --quiet
fi
