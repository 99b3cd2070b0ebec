#!/usr/bin/env bash
# Puts the same commit on every worker, with a Python and the packages it needs, and checks it.
#   setup.sh [--dry-run]
# Run again with the same commit, it checks and changes nothing. A worker whose run is alive keeps
# its code: stop.sh first.
source "$(dirname "$0")/common.sh"
source "$HERE/tpu.sh"
start '' "$@"
pinned_revision

# The code travels as an archive: no worker needs rights to a repository, none can get another commit.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/azr-tpu
archive=$cache/azr-$REVISION.tar.gz
[[ -n $DRY_RUN ]] || mkdir -p "$cache"
attempt "packing $REVISION" \
  git -C "$ROOT" archive --format=tar.gz --output="$archive.part" "$REVISION" ||
  bad_input "cannot pack commit $REVISION: $(reason)"
[[ -n $DRY_RUN ]] || mv "$archive.part" "$archive"

# shellcheck disable=SC2086 # flags are words
GIVE_UP=worker_gave_up attempt "copying the code to the workers" \
  gcloud compute tpus tpu-vm scp "$archive" "$TPU_NAME:azr-$REVISION.tar.gz" "${LOCATION[@]}" \
  --worker=all --scp-flag=-oConnectTimeout=15 $SSH_FLAGS ||
  die "the code did not reach every worker: $(reason)"

say "setting up the workers (two to five minutes the first time)"
on_workers all "setting up the workers" \
  "rm -rf azr/incoming && mkdir -p azr/incoming && tar -xzf azr-$REVISION.tar.gz -C azr/incoming \
&& bash azr/incoming/tpu_scripts/worker/setup.sh $REVISION $PYTHON_VERSION" ||
  die "set-up failed on a worker: $(reason)"

# What each worker says it has, not what it was sent.
lines=$(worker_states) || die "cannot check the workers' code: $(reason)"
wrong=$(awk -v want="$REVISION" '$1 == "azr-worker" && $4 != want {print $2 " has " $4}' <<<"$lines")
[[ -z $wrong ]] || die "not every worker has $REVISION: ${wrong//$'\n'/, }"
[[ -n $DRY_RUN ]] || say "$(wc -l <<<"$lines" | tr -d ' ') workers have $REVISION"
