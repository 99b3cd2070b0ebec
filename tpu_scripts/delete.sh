#!/usr/bin/env bash
# Deletes the TPU and its request. The run in the bucket stays: create.sh, setup.sh and launch.sh
# resume it.
#   delete.sh [--dry-run]
source "$(dirname "$0")/common.sh"
source "$HERE/tpu.sh"
start '' "$@"

delete_tpu || die "deleting $TPU_NAME failed, it may still cost money: $(reason)"
[[ -n $DRY_RUN ]] || say "$TPU_NAME: nothing is left of it; the run is in $RUN_DIR"
