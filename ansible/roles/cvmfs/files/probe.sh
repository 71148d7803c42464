#!/bin/sh
# Looks, changes nothing, and prints one of: installed | missing | not-to-be-had WHY; then what is
# done already.
# Arguments: the host and the port of the package repository that will be set up, or two empty ones
# where the host has a source of packages; then the packages' names.
set -u
export LC_ALL=C
host=$1 port=$2
shift 2
if command -v cvmfs_config >/dev/null; then
  echo installed
elif [ -n "$host" ]; then
  # A connection is enough to know: whether the package fits is for the package manager to say.
  if python3 -c 'import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)' "$host" "$port" 2>/dev/null
  then echo missing; else echo "not-to-be-had $host does not answer on port $port"; fi
else
  for package in "$@"; do
    if command -v apt-cache >/dev/null; then
      apt-cache policy "$package" 2>/dev/null | grep -q 'Candidate: [0-9]'
    else
      dnf -q list --available "$package" >/dev/null 2>&1
    fi || { absent=$package; break; }
  done
  if [ -n "${absent:-}" ]
  then echo "not-to-be-had no package source of this host has $absent"; else echo missing; fi
fi
# What an earlier run or an image has done already.
[ -e /etc/auto.master.d/cvmfs.autofs ] && echo set-up
[ -e /var/lib/vacuo/cvmfs/set-up ] && echo set-up-without-autofs
systemctl --quiet is-active autofs.service 2>/dev/null \
  && systemctl --quiet is-enabled autofs.service 2>/dev/null && echo autofs-runs
find /etc/systemd/system -maxdepth 1 -name 'cvmfs-*.mount' -printf 'unit %f\n'
exit 0
