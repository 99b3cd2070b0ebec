#!/usr/bin/env bash
# One look at everything: the request, the TPU, the run on every worker, the newest checkpoint.
#   status.sh [--dry-run]
source "$(dirname "$0")/common.sh"
source "$HERE/tpu.sh"
start '' "$@"

queue=$(queue_state) || die "cannot look at $TPU_NAME: $(reason)"
state=$(tpu_state) || die "cannot look at $TPU_NAME: $(reason)"
if [[ -z $DRY_RUN ]]; then
  printf 'request     %s\n' "$queue"
  printf 'tpu         %s\n' "$state"
fi
if [[ $state == READY ]]; then
  lines=$(worker_states) || die "$TPU_NAME is ready, but its workers do not answer: $(reason)"
  if [[ -z $DRY_RUN ]]; then
    printf 'run         %s\n' "$(run_state "$lines")"
    awk '{printf "  %-24s %-10s %s\n", $2, $3, $4}' <<<"$lines"
  fi
fi
saved=$(checkpoints) ||
  failed_with "NOT_FOUND|$NO_OBJECT" || die "cannot look into $RUN_DIR: $(reason)"
[[ -n $DRY_RUN ]] || printf 'checkpoint  %s\n' "$(tail -n 1 <<<"${saved:-none}")"
