#!/usr/bin/env bash
# Runs the same settings on GKE: fills in jobset.yaml and applies it, or hands the run to XPK.
#   IMAGE=… [SERVICE_ACCOUNT=…] submit.sh [--dry-run]
#   IMAGE=… CLUSTER=… submit.sh --xpk [--dry-run]
# Applied again, an unchanged JobSet is left alone.
source "$(dirname "$0")/../common.sh"
start '--xpk' "$@"
[[ ${IMAGE:-} =~ ^[A-Za-z0-9][A-Za-z0-9._/:@-]*$ ]] ||
  bad_input "IMAGE must name the image that gke/Dockerfile made, not '${IMAGE:-}'"
[[ ${SERVICE_ACCOUNT:=default} =~ ^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$ ]] ||
  bad_input "SERVICE_ACCOUNT must be the name of a Kubernetes service account, not '$SERVICE_ACCOUNT'"
pinned_revision
train_command

# Hosts of 4 chips; how many chips, and how they lie, follows from the type's name.
family=${ACCELERATOR_TYPE%-*} size=${ACCELERATOR_TYPE##*-}
case $family in
  v4) accelerator=tpu-v4-podslice chips=$((size / 2)) ;;
  v5p) accelerator=tpu-v5p-slice chips=$((size / 2)) ;;
  v5litepod) accelerator=tpu-v5-lite-podslice chips=$size ;;
  v6e) accelerator=tpu-v6e-slice chips=$size ;;
  *) bad_input "ACCELERATOR_TYPE must be v4-N, v5litepod-N, v5p-N or v6e-N, not '$ACCELERATOR_TYPE'" ;;
esac
case $family:$chips in
  v4:4 | v5p:4) topology=2x2x1 ;;
  v4:8 | v5p:8) topology=2x2x2 ;;
  v4:16 | v5p:16) topology=2x2x4 ;;
  v4:32 | v5p:32) topology=2x4x4 ;;
  v4:64 | v5p:64) topology=4x4x4 ;;
  *:4) topology=2x2 ;;
  *:8) topology=2x4 ;;
  *:16) topology=4x4 ;;
  *:32) topology=4x8 ;;
  *:64) topology=8x8 ;;
  *:128) topology=8x16 ;;
  *:256) topology=16x16 ;;
  *) bad_input "no topology is known for $ACCELERATOR_TYPE: write the manifest by hand" ;;
esac

# kubernetes_name RUN_NAME: a DNS label, different for different runs. 40 characters are what XPK
# takes; JobSet appends up to 17 for a pod. Dashes for underscores is all that small letters and
# digits need; whatever else is lost is made up for by a checksum.
kubernetes_name() {
  local LC_ALL=C plain sum
  if [[ $1 =~ ^[a-z]([a-z0-9_]{0,38}[a-z0-9])?$ ]]; then
    printf '%s' "${1//_/-}"
    return
  fi
  plain=${1,,}
  plain=${plain//[^a-z0-9]/-}
  [[ $plain == [a-z]* ]] || plain=run-$plain
  plain=${plain:0:31}
  sum=$(printf '%s' "$1" | cksum)
  printf '%s-%08x' "${plain%"${plain##*[^-]}"}" "${sum%% *}"
}
name=$(kubernetes_name "$RUN_NAME")
spot=false
[[ $CAPACITY != spot ]] || spot=true

if [[ ${ARGS[0]:-} == --xpk ]]; then
  [[ -n ${CLUSTER:-} ]] || bad_input "CLUSTER must name the cluster that XPK made"
  attempt "handing $RUN_NAME to XPK" xpk workload create --project="$PROJECT" --zone="$ZONE" \
    --cluster="$CLUSTER" --workload="$name" --tpu-type="$ACCELERATOR_TYPE" --num-slices=1 \
    --max-restarts=100 --docker-image="$IMAGE" --command="$(quoted "${TRAIN[@]}")" ||
    die "XPK did not take the run: $(reason)"
  exit 0
fi
((${#ARGS[@]} == 0)) || bad_input "submit.sh takes --xpk, not: ${ARGS[*]}"

json() {  # a list of strings, which YAML reads too
  local word list=""
  for word in "$@"; do
    # shellcheck disable=SC2016 # what Kubernetes would expand: $(…), and $$ to $
    [[ $word != *'$('* && $word != *'$$'* ]] || word=${word//\$/\$\$}
    word=${word//\\/\\\\}
    list+=", \"${word//\"/\\\"}\""
  done
  printf '[%s]' "${list#, }"
}

manifest=$(<"$HERE/gke/jobset.yaml")
fill() { manifest=${manifest//"\${$1}"/"$2"}; }
fill NAME "$name"
fill HOSTS "$((chips / 4))"
fill ACCELERATOR "$accelerator"
fill TOPOLOGY "$topology"
fill SPOT "$spot"
fill SERVICE_ACCOUNT "$SERVICE_ACCOUNT"
fill IMAGE "$IMAGE"
fill COMMAND "$(json "${TRAIN[@]}")"
if [[ $spot == false ]]; then  # a node that is no spot node has no such label
  manifest=$(sed '/gke-spot: "false"/d' <<<"$manifest")
fi
printf '%s\n' "$manifest" >"$SCRATCH/jobset.yaml"
if [[ -n $DRY_RUN ]]; then
  printf 'kubectl apply --filename=- <<EOF\n%s\nEOF\n' "$manifest"
  exit 0
fi
attempt "applying the JobSet $name" kubectl apply --filename="$SCRATCH/jobset.yaml" ||
  die "the JobSet was not applied: $(reason)"
say "kubectl get jobset $name; kubectl logs --follow --selector=jobset.sigs.k8s.io/jobset-name=$name"
