#!/usr/bin/env bash
# Writes the newest checkpoint as a Hugging Face folder, and copies it here.
#   export.sh [DIR] [--dry-run]                                      default: exports/RUN_NAME
# Worker 0 converts, on its CPU: a run that is alive is not disturbed.
source "$(dirname "$0")/common.sh"
source "$HERE/tpu.sh"
start 'a directory' "$@"
((${#ARGS[@]} < 2)) || bad_input "export.sh takes one directory, not: ${ARGS[*]}"
into=${ARGS[0]:-exports/$RUN_NAME}
exported=$BUCKET/exports/$RUN_NAME

on_workers 0 "exporting $RUN_NAME" "bash azr/code/tpu_scripts/worker/model.sh export $(quoted \
  "$RUN_DIR" "$exported")" || die "$RUN_NAME was not exported: $(reason)"
[[ -n $DRY_RUN ]] || mkdir -p "$into"
attempt "copying $exported" gcloud storage rsync "$exported" "$into" --recursive \
  --delete-unmatched-destination-objects ||
  die "the export is whole in $exported, but was not copied whole: $(reason)"
[[ -n $DRY_RUN ]] || say "$RUN_NAME is in $into, and in $exported"
