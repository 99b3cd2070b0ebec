#!/usr/bin/env bash
# On one TPU worker: the run as a process that outlives the connection. All workers get the same
# command: azr finds the other hosts of the pod by itself, and ends with them.
#   run.sh start REVISION COMMAND… | stop SECONDS | status
# status prints "azr-worker HOST STATE REVISION"; STATE: bare, idle, running, stopped, lost, exit-N.
# Exit code 3: trying again is useless.
set -euo pipefail
cd "$HOME/azr"
# A process id means nothing after a reboot: maintenance restarts hosts.
boot=$(</proc/sys/kernel/random/boot_id)

state() {
  local pid started
  if [[ ! -s installed ]]; then
    echo bare
  elif [[ -s pid ]]; then
    read -r pid started <<<"$(<pid)"
    if [[ $started == "$boot" && -r /proc/$pid/stat && $(</proc/"$pid"/stat) != *') Z '* ]]; then
      echo running
    elif [[ -e stopped ]]; then
      echo stopped
    elif [[ -s exit_code ]]; then
      echo "exit-$(<exit_code)"
    else
      echo lost
    fi
  else
    echo idle
  fi
}

revision() {
  local commit=-
  [[ ! -s installed ]] || read -r commit _ <installed
  echo "$commit"
}

case ${1:-} in
  status) echo "azr-worker $HOSTNAME $(state) $(revision)" ;;
  start)
    wanted=$2
    shift 2
    if [[ $(revision) != "$wanted" ]]; then
      echo "azr-tpu: $HOSTNAME has $(revision), the run wants $wanted: setup.sh" >&2
      exit 3
    fi
    [[ $(state) != running ]] || exit 0
    rm -f pid exit_code stopped
    printf '\n%s\n%s\n' "--- $(date -u +%FT%TZ) $wanted" "$*" >>train.log
    export PATH=$HOME/azr/venv/bin:$PATH
    # shellcheck disable=SC2016 # for the shell that is started
    # A session of its own survives the end of this connection; its exit code is kept. A signal to
    # the shell must not end it before it has written that down, hence the trap.
    (
      cd code
      setsid nohup bash -c 'trap : TERM INT; code=0; "$@" || code=$?
        echo "$code" >../exit_code.part; mv ../exit_code.part ../exit_code' _ "$@" \
        >>../train.log 2>&1 </dev/null &
      echo "$! $boot" >../pid
    ) ;;
  stop)
    patience=$2
    [[ $(state) == running ]] || exit 0
    read -r pid _ <<<"$(<pid)"
    touch stopped
    pkill -TERM -P "$pid" || true  # azr alone: it saves, and ends its own children
    for ((waited = 0; waited < patience * 5; waited++)); do
      [[ $(state) == running ]] || exit 0
      sleep 0.2
    done
    echo "$HOSTNAME: still alive after $patience s, killed" >&2
    kill -KILL -- "-$pid" 2>/dev/null || true ;;
  *)
    echo "run.sh start REVISION COMMAND… | stop SECONDS | status" >&2
    exit 3 ;;
esac
