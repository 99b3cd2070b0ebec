#!/usr/bin/env bash
# Stops the run on all workers; it saves first. The TPU stays, and costs: delete.sh ends that.
#   stop.sh [--dry-run]
source "$(dirname "$0")/common.sh"
source "$HERE/tpu.sh"
start '' "$@"

stop_run || die "the run may still be alive on some workers (status.sh): $(reason)"
[[ -n $DRY_RUN ]] || say "$RUN_NAME is stopped; launch.sh resumes it"
