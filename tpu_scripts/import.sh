#!/usr/bin/env bash
# Brings the base model into the bucket, through worker 0: faster than through your own line.
#   import.sh [--dry-run]
# Downloads MODEL, imports it, writes INIT_CHECKPOINT. A model that is whole there is left alone.
source "$(dirname "$0")/common.sh"
source "$HERE/tpu.sh"
start '' "$@"
[[ $INIT_CHECKPOINT == gs://?* ]] || bad_input "INIT_CHECKPOINT must be gs://…, not '$INIT_CHECKPOINT'"

on_workers 0 "importing $MODEL" "bash azr/code/tpu_scripts/worker/model.sh import $(quoted \
  "$MODEL" "$INIT_CHECKPOINT")" || die "$MODEL was not imported: $(reason)"
[[ -n $DRY_RUN ]] || say "$MODEL is in $INIT_CHECKPOINT"
