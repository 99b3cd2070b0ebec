#!/usr/bin/env bash
# Keeps the run going to its end: creates the TPU, sets it up, launches; after a preemption again,
# from the newest checkpoint. Leave it in tmux, or on any small machine with gcloud.
#   watch.sh [--dry-run]
# Killed and started again, it picks up what it finds. It ends: when the run is finished (0), was
# refused as bad input (2), was stopped by stop.sh, or failed MAX_FAILURES times in a row without a
# new checkpoint (1). The TPU stays after all but the first; the last line says so.
source "$(dirname "$0")/common.sh"
source "$HERE/tpu.sh"
start '' "$@"
pinned_revision  # the run keeps this commit, whatever is checked out here later

# Two watchers of one TPU would create and delete under each other's feet.
lock=${XDG_CACHE_HOME:-$HOME/.cache}/azr-tpu/watch-$PROJECT-$ZONE-$TPU_NAME
if [[ -z $DRY_RUN ]]; then
  mkdir -p "$(dirname "$lock")"
  if [[ -s $lock ]] && kill -0 "$(<"$lock")" 2>/dev/null; then
    bad_input "watcher $(<"$lock") looks after $TPU_NAME already"
  fi
  echo $$ >"$lock"
  trap 'rm -rf "$SCRATCH" "$lock"' EXIT
fi

newest() {
  checkpoints 2>/dev/null | tail -n 1
}

# follow: looks at TPU and run until there is something to do; leaves its name in OUTCOME.
follow() {
  local state lines silent=0 partial=0
  while :; do
    state=$(tpu_state) || state=UNKNOWN
    if [[ $state != READY && $state != UNKNOWN ]]; then
      OUTCOME=PREEMPTED
      return
    fi
    if lines=$(worker_states); then
      silent=0
      OUTCOME=$(run_state "$lines")
      case $OUTCOME in
        RUNNING) partial=0 ;;
        PARTIAL | ENDING) partial=$((partial + 1)) ;;  # the others should follow within a minute
        *) return ;;
      esac
      if ((partial > STRAGGLE_POLLS)); then
        OUTCOME=FAILED
        return
      fi
    elif ((++silent >= 3)); then
      OUTCOME=UNREACHABLE
      return
    fi
    [[ -z $DRY_RUN ]] || return 0
    sleep "$POLL_SECONDS"
  done
}

# round: brings the run up, then follows it. What is there already is left as it is.
round() {
  local step code
  for step in create setup launch; do
    code=0
    "$HERE/$step.sh" || code=$?
    case $code in
      0) ;;
      2) OUTCOME=REFUSED; return ;;
      130) exit 130 ;;
      *) OUTCOME=${step}_failed; return ;;
    esac
  done
  follow
}

failures=0 pause=$BACKOFF_SECONDS OUTCOME=
before=$(newest) || before=
while :; do
  round
  [[ -z $DRY_RUN ]] || exit 0
  kept="the TPU $TPU_NAME stays, if there is one: delete.sh ends its cost"
  case $OUTCOME in
    FINISHED)
      say "$RUN_NAME is finished: fetch.sh, export.sh, then delete.sh"
      exit 0 ;;
    REFUSED) bad_input "$RUN_NAME cannot run as it is configured, see above; $kept" ;;
    STOPPED) die "$RUN_NAME was stopped; $kept" ;;
    PREEMPTED)
      say "$TPU_NAME is preempted or in repair: it is brought back, and $RUN_NAME resumed"
      continue ;;  # happens to every spot TPU, as often as it likes: no failure
  esac
  after=$(newest) || after=$before  # none yet, or no answer: no progress
  if [[ $after != "$before" ]]; then
    failures=0 pause=$BACKOFF_SECONDS before=$after
  fi
  failures=$((failures + 1))
  ((failures < MAX_FAILURES)) ||
    die "$RUN_NAME: $OUTCOME, $failures failures without a new checkpoint; $kept"
  say "$RUN_NAME: $OUTCOME (failure $failures of $MAX_FAILURES); again in $pause s"
  # A second failure in a row may be a bad machine, which a restart does not mend. A set-up that
  # failed on workers that answer is none: another TPU would meet the same package mirror.
  if ((failures > 1)) && ! { [[ $OUTCOME == setup_failed ]] && worker_states >/dev/null; }; then
    delete_tpu || say "deleting $TPU_NAME failed: $(reason)"
  fi
  sleep "$pause"
  pause=$((pause * 2 > 300 ? 300 : pause * 2))
done
