#!/bin/sh
# Looks, changes nothing, and prints one fact a line.
# Arguments: the wished-for limits on open files and on processes (0: none).
set -u
export LC_ALL=C
has() { command -v "$1" >/dev/null && echo "has-$2"; }
# Whoever shares the kernel shares its clock.
if systemd-detect-virt --quiet --container; then echo container; fi
has chronyd chrony
[ -x /usr/lib/systemd/systemd-timesyncd ] && echo has-timesyncd
has nft firewall
has sudo sudo
effective=$(awk '/^CapEff/ {print $2}' /proc/self/status)
[ $(( 0x$effective >> 24 & 1 )) = 1 ] && echo may-raise-limits
awk '/^Max open files/ {print "open-files " $5} /^Max processes/ {print "processes " $4}' /proc/1/limits
exit 0
