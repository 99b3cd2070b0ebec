# shellcheck shell=bash
# What the scripts ask of the TPU: its state, its workers, its end. Source common.sh first.

# A connection to a preempted host must end, or the watcher would wait for ever.
ALIVE=(--ssh-flag=-oConnectTimeout=15 --ssh-flag=-oServerAliveInterval=15)
LOCATION=(--project="$PROJECT" --zone="$ZONE" --quiet)
# What a dry run takes the TPU to be; create.sh starts from nothing.
DRY_STATE=READY

# queue_state: that of the queued resource, and its type; MISSING if there is none.
queue_state() {
  attempt "looking at the queued resource $TPU_NAME" \
    gcloud compute tpus queued-resources describe "$TPU_NAME" "${LOCATION[@]}" \
    '--format=value(state.state,tpu.nodeSpec[0].node.acceleratorType)' && return 0
  failed_with NOT_FOUND || return 1
  echo MISSING
}

# node_state: READY, PREEMPTED, … and the number of its workers; MISSING if there is none.
node_state() {
  attempt "looking at the TPU $TPU_NAME" \
    gcloud compute tpus tpu-vm describe "$TPU_NAME" "${LOCATION[@]}" \
    '--format=value(state,networkEndpoints.len())' && return 0
  failed_with NOT_FOUND || return 1
  echo MISSING
}

# tpu_state: MISSING, QUEUED (wait), READY, LEAVING (wait), LOST (delete it) or FAILED (likewise).
tpu_state() {
  local queue node type _
  queue=$(queue_state) || return 1
  if [[ -n $DRY_RUN ]]; then
    if [[ $DRY_STATE == READY ]]; then node_state; fi
    echo "$DRY_STATE"
    return 0
  fi
  read -r queue type <<<"$queue"
  if [[ -n $type && $type != "$ACCELERATOR_TYPE" ]]; then
    bad_input "$TPU_NAME exists, but is a $type, not a $ACCELERATOR_TYPE:" \
      "delete it (delete.sh) or choose another TPU_NAME"
  fi
  case $queue in
    ACTIVE)
      node=$(node_state) || return 1
      read -r node _ <<<"$node"
      case $node in
        READY) echo READY ;;
        CREATING | STARTING | RESTARTING | REIMAGING | REPAIRING) echo QUEUED ;;
        # Dead or gone while its request still says ACTIVE.
        PREEMPTED | TERMINATED | STOPPING | STOPPED | DELETING | HIDING | HIDDEN | MISSING) echo LOST ;;
        *) echo QUEUED ;;  # a TPU is not deleted for a word that nobody knows
      esac ;;
    SUSPENDED) echo LOST ;;  # what a preemption leaves behind
    SUSPENDING | DELETING) echo LEAVING ;;
    FAILED | MISSING) echo "$queue" ;;
    *) echo QUEUED ;;
  esac
}

# delete_tpu: the request, and the node too. True only if nothing is left of them.
delete_tpu() {
  attempt "deleting the queued resource $TPU_NAME" \
    gcloud compute tpus queued-resources delete "$TPU_NAME" "${LOCATION[@]}" --force ||
    failed_with NOT_FOUND || return 1
  # A node that outlives its request costs money and blocks the name.
  local node
  node=$(node_state) || return 1
  [[ ${node%%[[:space:]]*} != MISSING ]] || return 0
  attempt "deleting the TPU $TPU_NAME" \
    gcloud compute tpus tpu-vm delete "$TPU_NAME" "${LOCATION[@]}" || failed_with NOT_FOUND
}

# on_workers all|N WHAT COMMAND: a shell command on all workers, or on one. What a worker writes comes
# through the same stream as gcloud's errors and may hold any word, so it is never read for a verdict:
# only the exit code 3 says that trying again is useless.
on_workers() {
  local worker=$1 what=$2 command=$3
  # shellcheck disable=SC2086 # flags are words
  GIVE_UP=worker_gave_up attempt "$what" gcloud compute tpus tpu-vm ssh "$TPU_NAME" "${LOCATION[@]}" \
    --worker="$worker" "${ALIVE[@]}" $SSH_FLAGS --command="$command"
}

worker_gave_up() { (($1 == 3)); }

# stop_run: on all workers; those that have nothing to stop succeed.
stop_run() {
  on_workers all "stopping the run" \
    "test ! -e azr/code || bash azr/code/tpu_scripts/worker/run.sh stop $STOP_SECONDS"
}

# worker_states: a line "azr-worker HOST STATE REVISION" of each worker; fails if one is missing.
worker_states() {
  local node count lines _
  node=$(node_state) || return 1
  # shellcheck disable=SC2016 # for the shell over there
  lines=$(on_workers all "asking the workers" \
    'bash azr/code/tpu_scripts/worker/run.sh status 2>/dev/null || echo "azr-worker $HOSTNAME bare -"') ||
    return 1
  [[ -z $DRY_RUN ]] || return 0
  read -r _ count <<<"$node"
  lines=$(grep '^azr-worker ' <<<"$lines" | sort) || return 1
  if [[ $(wc -l <<<"$lines") -ne $count ]]; then
    say "$(wc -l <<<"$lines") of $count workers answered"
    return 1
  fi
  printf '%s\n' "$lines"
}

# run_state LINES: one word for all workers. ENDING: some have finished, the others still run;
# PARTIAL: some run, some do not.
run_state() {
  local states
  states=$(awk '{print $3}' <<<"$1" | sort -u | tr '\n' ' ')
  case " $states" in
    *' exit-2 '*) echo REFUSED ;;  # bad input: the same on every machine and every day
    ' running ') echo RUNNING ;;
    ' exit-0 running ') echo ENDING ;;
    *' running '*) echo PARTIAL ;;
    *' stopped '*) echo STOPPED ;;
    ' exit-0 ') echo FINISHED ;;
    ' idle ' | ' bare ' | ' bare idle ' | ' ') echo IDLE ;;
    *) echo FAILED ;;
  esac
}

# checkpoints: those in the bucket that are whole, the newest last. A save that has not ended, or was
# killed, has no mark.
checkpoints() {
  local found
  found=$(attempt "looking for checkpoints" \
    gcloud storage ls "$RUN_DIR/checkpoints/*/commit_success.txt") || return
  printf '%s\n' "${found//\/commit_success.txt/}" | sort -V
}
