# shellcheck shell=bash
# What every script here begins with: settings, --dry-run, attempts with backoff, plain errors.
# Exit codes: 0 done; 2 bad input, nothing to be gained by trying again; 1 anything else.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$HERE")
export ROOT
# Exported, so that a script that calls another one hands on what it was told.
set -a
# shellcheck source=tpu_scripts/settings.env
source "$HERE/settings.env"
: "${DRY_RUN:=}"
set +a

SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT
# A dry run prints commands here, also those whose answer a caller captures.
exec 3>&1

say() { printf 'azr-tpu: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
bad_input() { say "$*"; exit 2; }

# start FLAGS "$@": reads --dry-run and --help, which every script has, and checks the settings.
# The rest is left in ARGS; FLAGS (may be empty) says what the script itself takes.
start() {
  local takes=$1 argument
  shift
  ARGS=()
  for argument in "$@"; do
    case $argument in
      --dry-run) export DRY_RUN=1 ;;
      -h | --help) awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"; exit 0 ;;
      *)
        [[ -n $takes ]] || bad_input "$(basename "$0") takes --dry-run and --help, not: $argument"
        ARGS+=("$argument") ;;
    esac
  done
  [[ -n $PROJECT ]] || bad_input "PROJECT is not set: see tpu_scripts/settings.env"
  local LC_ALL=C setting odd='*[][*?#"\\[:space:][:cntrl:]]*'
  [[ $TPU_NAME =~ ^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$ ]] ||
    bad_input "TPU_NAME must be [a-z]([-a-z0-9]{0,61}[a-z0-9])?, not '$TPU_NAME'"
  [[ $BUCKET =~ ^gs://[a-z0-9][-_.a-z0-9]+$ ]] || bad_input "BUCKET must be gs://NAME, not '$BUCKET'"
  [[ $RUN_DIR == gs://?* ]] || bad_input "RUN_DIR must be gs://…, not '$RUN_DIR':" \
    "a local directory is lost with the TPU"
  # gcloud reads patterns, gin the end of a string, a file system another directory.
  for setting in RUN_NAME RUN_DIR INIT_CHECKPOINT; do
    # shellcheck disable=SC2053 # a pattern
    [[ ${!setting} != $odd && (-z ${!setting} || ! "/${!setting#gs://}/" =~ /\.{0,2}/) ]] || bad_input \
      "$setting must have no blanks, quotes, backslashes or any of []*?#, no empty, . or .. parts"
  done
}

quoted() {  # its arguments as a shell reads them back
  local word mark="'" escaped="'\\''"
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]]; then
      printf '%s ' "$word"
    else
      printf "'%s' " "${word//$mark/$escaped}"
    fi
  done | sed 's/ $//'
}

# show COMMAND…: in a dry run prints the command and succeeds; otherwise fails.
show() {
  [[ -n $DRY_RUN ]] || return 1
  quoted "$@" >&3
  printf '\n' >&3
}

# attempt WHAT COMMAND…: runs it, again with backoff where that may help. Its output appears once it
# succeeded. If it does not: says so, keeps the error for failed_with, returns the exit code.
# GIVE_UP names the function that is asked, with the exit code, whether to stop trying.
GIVE_UP=hopeless
attempt() {
  local what=$1 try code pause=$BACKOFF_SECONDS
  shift
  show "$@" && return 0
  for ((try = 1; ; try++)); do
    code=0
    "$@" >"$SCRATCH/output" 2>"$SCRATCH/errors" </dev/null || code=$?
    if ((code == 0)); then
      cat "$SCRATCH/output"
      return 0
    fi
    if ((try >= ATTEMPTS)) || "$GIVE_UP" "$code"; then
      break
    fi
    say "$what: attempt $try of $ATTEMPTS failed ($(reason)); again in $pause s"
    sleep "$pause"
    pause=$((pause * 2 > 300 ? 300 : pause * 2))
  done
  return "$code"
}

# Errors that stay. NOT_FOUND and ALREADY_EXISTS are answers, for the caller to judge.
hopeless() { failed_with "NOT_FOUND|ALREADY_EXISTS|$NO_OBJECT" || refused; }
refused() {  # a mistake of ours, or a right that is missing
  failed_with 'INVALID_ARGUMENT|unrecognized arguments|PERMISSION_DENIED|UNAUTHENTICATED' ||
    failed_with '.*(does not have|Reauthentication|active account|not been used in project)'
}
NO_OBJECT='(One or more|The following) URLs matched no objects|gs://[^ ]+ not found: 404'
# failed_with PATTERN: whether gcloud's own message begins so. Other lines of the stream, and names
# of ours further on in the message, may hold the same words and mean something else.
failed_with() { grep -Eq "^ERROR: \(gcloud[^)]*\) ($1)" "$SCRATCH/errors"; }

reason() {  # the last attempt's error in one line
  local line
  line=$(grep -E 'ERROR|azr|[Qq]uota|rror' "$SCRATCH/errors" | tail -n 1 || true)
  [[ -n $line ]] || line=$(tail -n 1 "$SCRATCH/errors")
  printf '%s' "${line:-no message}"
}

# pinned_revision: the commit that the workers get; it must be all that is run.
pinned_revision() {
  local changed
  if [[ -z $REVISION ]]; then
    show git -C "$ROOT" status --porcelain --untracked-files=no || true
    show git -C "$ROOT" rev-parse HEAD || true
    changed=$(git -C "$ROOT" status --porcelain --untracked-files=no) ||
      bad_input "$ROOT is no git checkout: what would the workers get?"
    if [[ -n $changed && -z $DRY_RUN ]]; then
      bad_input "changes that are not committed would not reach the workers:" \
        "commit them, or name a commit with REVISION=…"
    fi
    REVISION=$(git -C "$ROOT" rev-parse HEAD)
  fi
  [[ $REVISION =~ ^[0-9a-f]{40}$ ]] || bad_input "REVISION must be a whole commit id, not '$REVISION'"
  export REVISION
}

# train_command: leaves in TRAIN what every worker runs. The same starts and resumes: the newest
# checkpoint in RUN_DIR decides.
train_command() {
  local file binding
  [[ $TOTAL_STEPS =~ ^[1-9][0-9]*$ ]] ||
    bad_input "TOTAL_STEPS must be a whole number, not '$TOTAL_STEPS'"
  TRAIN=(env "JAX_COMPILATION_CACHE_DIR=$JAX_COMPILATION_CACHE_DIR" "AZR_REVISION=$REVISION"
    azr train --run_dir "$RUN_DIR" --steps "$TOTAL_STEPS")
  for file in $GIN_FILES; do TRAIN+=(--gin_file "$file"); done
  if [[ -n $INIT_CHECKPOINT ]]; then
    TRAIN+=(--gin_bindings "INIT_CHECKPOINT = \"$INIT_CHECKPOINT\"")
  fi
  while IFS= read -r binding; do
    [[ -z $binding ]] || TRAIN+=(--gin_bindings "$binding")
  done <<<"$GIN_BINDINGS"
}
