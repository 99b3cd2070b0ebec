#!/usr/bin/env bash
# Copies the run from the bucket: configuration, metrics, samples, summary; not the checkpoints.
#   fetch.sh [DIR] [--dry-run]                                       default: runs/RUN_NAME
# Run again, it copies what is new. `azr report DIR` then works without the TPU.
source "$(dirname "$0")/common.sh"
start 'a directory' "$@"
((${#ARGS[@]} < 2)) || bad_input "fetch.sh takes one directory, not: ${ARGS[*]}"
into=${ARGS[0]:-runs/$RUN_NAME}

[[ -n $DRY_RUN ]] || mkdir -p "$into"
attempt "fetching $RUN_DIR" gcloud storage rsync "$RUN_DIR" "$into" --recursive \
  '--exclude=^checkpoints/.*' || die "$RUN_DIR was not fetched whole: $(reason)"
[[ -n $DRY_RUN ]] || say "$RUN_DIR is in $into; azr report $into shows it"
