#!/usr/bin/env bash
# Starts the run on all workers, or resumes it: the same command does both.
#   launch.sh [--dry-run]
# All or nothing: where it runs on some workers only, it is stopped there first; where it does not
# start on all, it is stopped again.
source "$(dirname "$0")/common.sh"
source "$HERE/tpu.sh"
start '' "$@"
pinned_revision
train_command

lines=$(worker_states) || die "cannot ask the workers, nothing was started: $(reason)"
case $(run_state "$lines") in
  RUNNING)
    say "$RUN_NAME is running on all workers already"
    exit 0 ;;
  PARTIAL | ENDING)
    say "$RUN_NAME runs on some workers only: it is stopped there, then started on all"
    stop_run || die "cannot stop the half-dead run: $(reason)" ;;
esac

command="bash azr/code/tpu_scripts/worker/run.sh start $REVISION $(quoted "${TRAIN[@]}")"
say "starting $RUN_NAME on all workers"
on_workers all "starting the run" "$command" || {
  why=$(reason)
  stop_run && die "the run did not start on all workers and was stopped again: $why"
  die "the run did not start on all workers, and stopping it failed (stop.sh): $why"
}

# A mistake in the configuration shows within seconds: say it here, not in a log that nobody reads.
[[ -n $DRY_RUN ]] || sleep "$SETTLE_SECONDS"
lines=$(worker_states) || die "the run was started, but the workers no longer answer: $(reason)"
[[ -z $DRY_RUN ]] || exit 0
state=$(run_state "$lines")
case $state in
  RUNNING | ENDING | FINISHED) say "$RUN_NAME: $state on all workers; logs.sh shows what they say" ;;
  *)
    on_workers 0 "reading the log" 'tail -n 5 azr/train.log' >&2 || true
    stop_run || say "stopping what is left of it failed (stop.sh): $(reason)"
    if [[ $state == REFUSED ]]; then
      bad_input "$RUN_NAME was refused; the log says why"
    fi
    die "$RUN_NAME ended at once ($state); logs.sh shows more" ;;
esac
