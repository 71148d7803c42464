#!/bin/sh
# Looks, changes nothing, and prints one fact a line; `ready` when there is nothing to do.
# Arguments: podman or docker, then read-only image stores that podman should look into.
set -u
export LC_ALL=C PODMAN_IGNORE_CGROUPSV1_WARNING=1
ready=yes
engine=$1
shift
note() { echo "$1"; [ "${2:-}" = todo ] && ready=no; }
configured() { grep -Eqs "^[[:space:]]*$1" /etc/containers/containers.conf /etc/containers/containers.conf.d/*.conf; }

if command -v "$engine" >/dev/null; then note "$engine"; else note no-engine todo; fi

case $engine in
docker)
  # The client alone is not an engine.
  docker version >/dev/null 2>&1 || note not-running todo
  systemctl --quiet is-enabled docker.service 2>/dev/null || note not-enabled todo
  ;;
podman)
  # A hard limit that only CAP_SYS_RESOURCE may raise: podman's own defaults would be refused.
  effective=$(awk '/^CapEff/ {print $2}' /proc/self/status)
  if [ $(( 0x$effective >> 24 & 1 )) = 0 ]; then
    # Not by ulimit: dash knows no limit of processes.
    note "limits $(awk '/^Max open files/ {print $5}' /proc/self/limits) $(awk '/^Max processes/ {print $4}' /proc/self/limits)"
    configured default_ulimits || note limits-missing todo
  fi

  # crun refuses a hybrid of cgroup v1 and v2, and its systemd manager needs the whole hierarchy.
  if [ "$(stat -fc %T /sys/fs/cgroup)" != cgroup2fs ]; then
    note hybrid-cgroups
    configured runtime || note runtime-missing todo
  fi

  for store in "$@"; do
    grep -Fqs "\"$store\"" /etc/containers/storage.conf || note "store-missing $store" todo
  done
  ;;
esac

case $(findmnt -no PROPAGATION /) in
  *shared*) ;;
  *) note private-root todo ;;
esac

[ $ready = no ] || echo ready
