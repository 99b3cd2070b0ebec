#!/usr/bin/env bash
# Asks for a TPU through the queue and waits until it is ready.
#   create.sh [--dry-run]
# Run again, it waits on, or finds it ready. What was preempted or has failed is deleted and asked
# for anew. Whenever this script gives up, it says what is left; what is half made is deleted.
source "$(dirname "$0")/common.sh"
source "$HERE/tpu.sh"
start '' "$@"

# image: the runtime that the generation needs.
image() {
  case $ACCELERATOR_TYPE in
    v4-*) echo tpu-ubuntu2204-base ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    *) return 1 ;;
  esac
}

[[ $ACCELERATOR_TYPE =~ ^(v4|v5litepod|v5p|v6e)-[0-9]+$ ]] ||
  bad_input "ACCELERATOR_TYPE must be v4-N, v5litepod-N, v5p-N or v6e-N, not '$ACCELERATOR_TYPE'"
runtime=${RUNTIME_VERSION:-$(image)}
case $CAPACITY in
  spot) capacity=(--spot) ;;
  reserved) capacity=(--reserved) ;;
  on-demand) capacity=() ;;
  *) bad_input "CAPACITY must be spot, on-demand or reserved, not '$CAPACITY'" ;;
esac

# A TPU without a bucket would train and lose it all, so the bucket comes first.
require_bucket() {
  attempt "looking at $BUCKET" \
    gcloud storage buckets describe "$BUCKET" --project="$PROJECT" '--format=value(name)' \
    >"$SCRATCH/bucket" && [[ -z $DRY_RUN ]] && return 0
  if [[ -z $DRY_RUN ]] && ! failed_with "NOT_FOUND|$NO_OBJECT"; then
    die "cannot look at $BUCKET, no TPU was asked for: $(reason)"
  fi
  say "making $BUCKET in $BUCKET_LOCATION"
  # Or each checkpoint that a newer one replaces, 90 GB of a 7B run, is kept and billed for a week.
  attempt "making $BUCKET" gcloud storage buckets create "$BUCKET" --project="$PROJECT" \
    --location="$BUCKET_LOCATION" --uniform-bucket-level-access --soft-delete-duration=0 ||
    die "cannot make $BUCKET, no TPU was asked for: $(reason)"
}

request() {
  local why code=1
  say "asking for $TPU_NAME, a $ACCELERATOR_TYPE ($CAPACITY) in $ZONE with $runtime"
  # shellcheck disable=SC2086 # flags are words
  attempt "asking for $TPU_NAME" gcloud compute tpus queued-resources create "$TPU_NAME" \
    "${LOCATION[@]}" --node-id="$TPU_NAME" --accelerator-type="$ACCELERATOR_TYPE" \
    --runtime-version="$runtime" ${capacity[@]+"${capacity[@]}"} $CREATE_FLAGS && return 0
  why=$(reason)
  if failed_with ALREADY_EXISTS; then
    [[ $(queue_state) == MISSING* ]] || return 0  # an earlier attempt got through: wait for it
    bad_input "a TPU named $TPU_NAME exists that no queued resource made:" \
      "delete it (delete.sh) or choose another TPU_NAME"
  fi
  if failed_with 'RESOURCE_EXHAUSTED|.*[Qq]uota .*exceeded'; then
    why="no quota for $ACCELERATOR_TYPE ($CAPACITY) in $ZONE: $why"
  elif refused; then
    code=2
  fi
  # An error does not prove that nothing was made.
  if [[ $(queue_state) == MISSING* ]]; then
    say "nothing was created: $why"
    exit "$code"
  fi
  give_back "the request failed: $why"
}

# give_back WHY: ends with nothing left, or names what is.
give_back() {
  if delete_tpu; then
    die "$1; $TPU_NAME was deleted, nothing is left"
  fi
  die "$1; deleting $TPU_NAME failed too ($(reason)): it may cost money until delete.sh succeeds"
}

trap 'say "interrupted: the request for $TPU_NAME stays; create.sh waits on, delete.sh ends it";
  exit 130' INT TERM

DRY_STATE=MISSING
require_bucket
losses=0 polls=0 before=""
while :; do
  state=$(tpu_state) || {
    code=$?
    ((code != 2)) || exit 2  # said already
    die "cannot look at $TPU_NAME (it may exist: status.sh): $(reason)"
  }
  [[ $state == "$before" ]] || say "$TPU_NAME: $state"
  before=$state
  case $state in
    READY) exit 0 ;;
    MISSING)
      request
      DRY_STATE=READY ;;
    LOST | FAILED)
      why=$(attempt "asking why" gcloud compute tpus queued-resources describe "$TPU_NAME" \
        "${LOCATION[@]}" '--format=value(state.failedData.error.message)' || true)
      losses=$((losses + 1))
      if ((losses >= ATTEMPTS)); then
        give_back "$TPU_NAME was $state $losses times: ${why:-preempted}"
      fi
      say "$TPU_NAME is $state: ${why:-preempted}; it is deleted and asked for anew"
      delete_tpu || die "deleting $TPU_NAME failed, it may cost money: $(reason)" ;;
    *)
      polls=$((polls + 1))
      ((polls < MAX_POLLS)) ||
        die "$TPU_NAME is still $state after $polls looks; the request stays:" \
          "create.sh waits on, delete.sh ends it"
      sleep "$POLL_SECONDS" ;;
  esac
done
