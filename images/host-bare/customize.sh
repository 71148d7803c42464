#!/bin/sh
# $1: the root of the image.
set -eu
root=$1

# Each host gets an identity of its own.
rm -f "$root"/etc/ssh/ssh_host_*
: > "$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"

mkdir -p -m 700 "$root/root/.ssh"

mask() { for unit; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done; }

# What needs hardware, a console or a login session has no place in a container.
mask systemd-logind.service getty.target console-getty.service systemd-udevd.service \
  systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-remount-fs.service \
  apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer

# A local host is privileged: these would change the kernel of the machine under it.
mask systemd-sysctl.service systemd-modules-load.service modprobe@.service \
  systemd-binfmt.service proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount \
  dev-hugepages.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount

# What systemd would do once at the first boot of every host is done here, once for all of them.
chroot "$root" ldconfig
chroot "$root" journalctl --update-catalog
touch "$root/etc/.updated" "$root/var/.updated"
