#!/usr/bin/env bash
# On one TPU worker, unpacked in ~/azr/incoming: Python, packages, a check; then becomes ~/azr/code.
#   setup.sh REVISION PYTHON_VERSION
# Exit code 3: trying again is useless.
set -euo pipefail
revision=$1 version=$2
python=python$version
cd "$HOME/azr"

if [[ -s installed && $(<installed) == "$revision $version" ]]; then
  echo "$HOSTNAME: $revision is set up"
  rm -rf incoming
  exit 0
fi
if [[ -d code && $(bash code/tpu_scripts/worker/run.sh status) == *' running '* ]]; then
  echo "azr-tpu: $HOSTNAME: a run is alive here; stop it before its code is changed" >&2
  exit 3
fi
rm -f installed  # until the end, this worker has nothing

# The images ship Python 3.10, or one without venv. At first boot others hold apt's lock: wait.
apt() {
  sudo env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a apt-get -o DPkg::Lock::Timeout=600 -yq "$@"
}
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  apt update
  apt install software-properties-common
  sudo add-apt-repository -y ppa:deadsnakes/ppa
  apt update
  apt install "$python" "$python-venv"
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "azr-tpu: $HOSTNAME: Python $version is older than 3.11" >&2
  exit 3
}

rm -rf code
mv incoming code
"$python" -m venv --clear venv
# [gcs] lets JAX and Orbax read and write gs:// without TensorFlow.
venv/bin/pip install --quiet --disable-pip-version-check --no-compile \
  -c code/constraints.txt -e './code[tpu,gcs]'
# Better here than after the first completions: does this host have what the sandbox needs?
(cd code && ../venv/bin/python -m sandbox probe >/dev/null) || {
  echo "azr-tpu: $HOSTNAME: the sandbox does not hold here (python -m sandbox probe says why)" >&2
  exit 3
}
echo "$revision $version" >installed
echo "$HOSTNAME: $revision is set up"
