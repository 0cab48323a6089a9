#!/usr/bin/env bash
# Trains on every host of a TPU slice, from the folder of this project on each of them:
#   launch/tpu_vm.sh SLICE ZONE train svamp --model t5_1_1/xxl --model-dir /mnt/bucket/run …
# The bucket is mounted on every host (gcsfuse). The same line resumes a preempted or killed run from its last checkpoint.
set -euo pipefail

if [ "$#" -lt 3 ]; then
  echo "usage: launch/tpu_vm.sh SLICE ZONE COMMAND [ARGUMENTS]" >&2
  exit 2
fi
slice=$1
zone=$2
shift 2

# JAX learns of the other hosts from the metadata server: DISTRIBUTED=auto tells it to ask.
status=0
gcloud compute tpus tpu-vm ssh "$slice" --zone="$zone" --worker=all --command="
  set -e
  cd distill_jax
  test -x .venv/bin/distill-jax || {
    python3 -m venv .venv
    .venv/bin/pip install --quiet -c constraints.txt -e . 'jax[tpu]'
  }
  DISTRIBUTED=auto .venv/bin/distill-jax $(printf '%q ' "$@")" || status=$?
if [ "$status" -ne 0 ]; then
  echo "A host that is lost ends all others with 'JAX distributed service detected fatal errors' and a stack trace." >&2
  echo "Its own log says why. The same line resumes the run from its last complete checkpoint." >&2
fi
exit "$status"
