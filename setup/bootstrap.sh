#!/bin/bash
# setup/bootstrap.sh: bring a bare Debian 12 to where Vacuo runs, and do nothing where it already is.
#
#   apt packages  ->  .venv with the package in it
#                 ->  host and service images            (the two arrows run side by side)
#
# Needs root. What is done is said on standard error; the details are in build/setup/*.log.
#   VACUO_SETUP_IMAGES=no      leave the images out (documentation and unit tests need none)
#   VACUO_PYTHON=python3.12    another Python than python3
#   VACUO_ENGINE_DIRECTORY, VACUO_DEBIAN_MIRROR: see images/README.md
set -euo pipefail
cd "$(dirname "$0")/.."

python=${VACUO_PYTHON:-python3}
logs=build/setup
began=$SECONDS

# The first block is wanted early, because pip can start as soon as it is there.
packages_python=(python3 python3-venv ca-certificates)
packages_rest=(
  podman runc netavark aardvark-dns iptables nftables catatonit  # the engine of local hosts
  mmdebstrap                                                     # makes the images
  bubblewrap util-linux          # what Ansible runs in; util-linux has setpriv
  openssh-client git make iproute2
)
if [ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ]; then
  packages_rest+=(
    e2fsprogs fdisk mtools grub-common grub-pc-bin grub-efi-amd64-bin qemu-utils  # make disk images
    qemu-system-x86 ovmf                                                          # boot them, in tests
  )
fi

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }

# --- what must be so before anything is touched ---------------------------------------------------

check_machine() {
  [ "$(id -u)" = 0 ] || fail "this needs root, because hosts are system containers. Try: sudo make setup"
  command -v apt-get >/dev/null || command -v podman >/dev/null ||
    fail "there is no podman and no apt-get to install it with. Try: install podman, runc, netavark, mmdebstrap and python3-venv by hand, then run this again"
  local free
  free=$(df --output=avail -BM . | tail -1 | tr -dc 0-9)
  [ "$free" -ge 2048 ] || fail "only $free MiB are free in $PWD and 2048 are needed. Try: make room, or use a checkout on a larger disk"
}

# --- apt ------------------------------------------------------------------------------------------

missing_of() {
  local package
  for package; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
  done
}

apt_install() {  # what to call it, packages...
  local what=$1; shift
  local missing
  mapfile -t missing < <(missing_of "$@")
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null ||
    fail "these packages are missing and there is no apt-get: ${missing[*]}. Try: install them by hand"
  say "apt: installing ${missing[*]}"
  local install=(apt-get install --yes --no-install-recommends -o DPkg::Lock::Timeout=300 "${missing[@]}")
  export DEBIAN_FRONTEND=noninteractive
  # The package lists are fetched only if the ones that are there do not do.
  "${install[@]}" >"$logs/apt-$what.log" 2>&1 && return 0
  say "apt: fetching the package lists"
  apt-get update -o DPkg::Lock::Timeout=300 >"$logs/apt-update.log" 2>&1 ||
    say "apt: not every list could be fetched ($logs/apt-update.log)"
  "${install[@]}" >"$logs/apt-$what.log" 2>&1 ||
    fail "apt could not install ${missing[*]}: $(grep -m1 '^E:' "$logs/apt-$what.log" || echo 'no message'). Try: see $logs/apt-$what.log; is a Debian mirror reachable?"
}

# --- the virtual environment ----------------------------------------------------------------------

python_stamp() { { "$python" --version; pwd; cat pyproject.toml; } | sha256sum; }

python_environment() {
  local stamp=.venv/.vacuo-stamp
  if [ -x .venv/bin/vacuo ] && [ "$(cat $stamp 2>/dev/null)" = "$(python_stamp)" ]; then return 0; fi
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" --version) is too old and 3.11 is needed. Try: VACUO_PYTHON=/path/to/python3.11 make setup"
  say "python: installing the package and what it needs into .venv"
  [ -x .venv/bin/python ] || "$python" -m venv .venv >"$logs/pip.log" 2>&1 ||
    fail "the virtual environment could not be made. Try: see $logs/pip.log"
  .venv/bin/python -m pip install --disable-pip-version-check --editable '.[dev]' >"$logs/pip.log" 2>&1 ||
    fail "pip failed: $(grep -oE '(ERROR|[A-Z][A-Za-z]+Error): .*' "$logs/pip.log" | tail -1 | grep . || echo 'no message'). Try: see $logs/pip.log; is a package index reachable?"
  # Written last: a run that was cut short is done again.
  python_stamp >$stamp
  say "python: ready after $((SECONDS - began)) s"
}

# --- the images -----------------------------------------------------------------------------------

host_images() {
  [ "${VACUO_SETUP_IMAGES:-yes}" = yes ] || return 0
  "$python" images/build >"$logs/images.txt" || return 1
}

# --------------------------------------------------------------------------------------------------

check_machine
mkdir -p "$logs"
exec 9>"$logs/lock"
flock --nonblock 9 || { say "another setup is running in this checkout; waiting for it"; flock 9; }

# Children must not keep the lock when they outlive this script (the engine's service may).
apt_install python "${packages_python[@]}" 9>&-
python_environment 9>&- &
python_job=$!
apt_install rest "${packages_rest[@]}" 9>&-
host_images 9>&- &
images_job=$!

failed=0
wait $python_job || failed=1
wait $images_job || failed=1
[ $failed = 0 ] || exit 1
say "ready after $((SECONDS - began)) s"
