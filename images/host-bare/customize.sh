#!/bin/sh
# $1: the root of the image.
set -eu
root=$1

# Each host gets an identity of its own.
rm -f "$root"/etc/ssh/ssh_host_*
: > "$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"

mkdir -p -m 700 "$root/root/.ssh"

# What needs hardware, a console or a login session has no place in a container.
for unit in systemd-logind.service getty.target console-getty.service systemd-udevd.service \
  systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-modules-load.service \
  apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
