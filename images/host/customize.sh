#!/bin/sh
# $1: the root of the image.
set -eu
root=$1

# Containers on a host are run by units of their own; podman's daemons would only slow the boot.
for unit in podman.service podman.socket podman-auto-update.timer podman-auto-update.service \
  podman-restart.service podman-clean-transient.service netavark-dhcp-proxy.service \
  netavark-dhcp-proxy.socket; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
