#!/bin/sh
# $1: the root of the image.
set -eu
root=$1
units=$root/etc/systemd/system
list=$root/usr/local/share/vacuo/not-in-containers
mkdir -p "${list%/*}"

# This is a machine: what its base masked for containers runs, but for what no host of ours wants.
for unit in "$units"/*; do
  [ "$(readlink "$unit")" = /dev/null ] || continue
  case ${unit##*/} in
    podman*|netavark*|apt-daily*|dpkg-db-backup*|e2scrub*) continue ;;
  esac
  echo "${unit##*/}" >> "$list"
  rm "$unit"
done
# What a container must not run besides: it would look for a cloud, and rule over the network.
for unit in "$root"/usr/lib/systemd/system/cloud-* "$root"/lib/systemd/system/cloud-*; do
  [ ! -f "$unit" ] || echo "${unit##*/}" >> "$list"
done
printf '%s\n' systemd-networkd.service systemd-networkd.socket systemd-resolved.service \
  systemd-timesyncd.service systemd-networkd-wait-online.service >> "$list"
sort -u -o "$list" "$list"

chroot "$root" systemctl enable systemd-networkd.service systemd-resolved.service \
  systemd-timesyncd.service ssh.service
# It looks for leftovers of snapshots, which nobody here makes, at every boot.
ln -sf /dev/null "$units/e2scrub_reap.service"
# The engine writes into it while it is a container; a machine gets resolved's.
rm -f "$root/etc/resolv.conf"
: > "$root/etc/resolv.conf"

# Whatever is in the initial ram disk of this machine has no place in that of others.
rm -f "$root"/etc/initramfs-tools/conf.d/resume
rm -rf "$root"/var/lib/cloud/* "$root"/var/lib/dhcp/*
: > "$root/etc/machine-id"
