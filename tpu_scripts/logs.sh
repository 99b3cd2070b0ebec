#!/usr/bin/env bash
# What the run writes on the workers.
#   logs.sh [--worker=N|all] [--lines=N] [--follow] [--dry-run]      default: worker 0, 50 lines
source "$(dirname "$0")/common.sh"
source "$HERE/tpu.sh"
start 'flags' "$@"

worker=0 lines=50 follow=
for argument in ${ARGS[@]+"${ARGS[@]}"}; do
  case $argument in
    --worker=*) worker=${argument#*=} ;;
    --lines=*) lines=${argument#*=} ;;
    --follow) follow=1 ;;
    *) bad_input "logs.sh takes --worker=N|all, --lines=N and --follow, not: $argument" ;;
  esac
done
[[ $worker =~ ^([0-9]+|all)$ ]] || bad_input "--worker must be a number or all, not '$worker'"
[[ $lines =~ ^[0-9]+$ ]] || bad_input "--lines must be a number, not '$lines'"

if [[ -n $follow ]]; then
  # Straight to the terminal: attempt would hold the output back until the end.
  # shellcheck disable=SC2206 # flags are words
  follow=(gcloud compute tpus tpu-vm ssh "$TPU_NAME" "${LOCATION[@]}" --worker="$worker"
    "${ALIVE[@]}" $SSH_FLAGS --command="tail -n $lines -F azr/train.log")
  show "${follow[@]}" && exit 0
  "${follow[@]}" || die "the connection ended; the run goes on without it (status.sh)"
  exit 0
fi
on_workers "$worker" "reading the log" "tail -n $lines azr/train.log" ||
  die "cannot read the log of worker $worker: $(reason)"
