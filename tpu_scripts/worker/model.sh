#!/usr/bin/env bash
# On worker 0: models between Hugging Face and the bucket.
#   model.sh import MODEL GS_DIR | export RUN_DIR GS_DIR
# Converts on the CPU, so that the chips stay with the run. Each try starts afresh.
set -euo pipefail
what=$1 from=$2 to=$3
work=$HOME/azr/model
export PATH=$HOME/azr/venv/bin:$PATH JAX_PLATFORMS=cpu
rm -rf "$work"
mkdir -p "$work"
trap 'rm -rf "$work"' EXIT
cd "$HOME/azr/code"

case $what in
  import)
    # Orbax's mark goes last: what lacks it is no model yet, for azr neither.
    if gcloud storage ls "$to/commit_success.txt" >/dev/null 2>&1; then
      echo "$to is there already"
      exit 0
    fi
    hf download "$from" --local-dir "$work/hf" --quiet
    azr import --hf "$work/hf" --out "$work/out"
    rm -rf "$work/hf"
    gcloud storage rsync "$work/out" "$to" --recursive --exclude='^commit_success\.txt$' \
      --delete-unmatched-destination-objects --quiet
    gcloud storage cp "$work/out/commit_success.txt" "$to/commit_success.txt" --quiet ;;
  export)
    azr export --checkpoint "$from" --out "$work/out"
    gcloud storage rsync "$work/out" "$to" --recursive \
      --delete-unmatched-destination-objects --quiet ;;
esac
