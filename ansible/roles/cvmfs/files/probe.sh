#!/bin/sh
# Looks, changes nothing, and prints one of: installed | missing | not-to-be-had WHY.
# Arguments: `repository` (upstream's will be set up) or `packages` (the host has a source), then
# the packages' names.
set -u
export LC_ALL=C
how=$1
shift
if command -v cvmfs_config >/dev/null; then
  echo installed
elif [ "$how" = repository ]; then
  # A connection is enough to know: whether the package fits is for the package manager to say.
  if python3 -c 'import socket; socket.create_connection(("cvmrepo.s3.cern.ch", 443), 5)' 2>/dev/null
  then echo missing; else echo "not-to-be-had cvmrepo.s3.cern.ch does not answer on port 443"; fi
else
  for package in "$@"; do
    if command -v apt-cache >/dev/null; then
      apt-cache policy "$package" 2>/dev/null | grep -q 'Candidate: [0-9]'
    else
      dnf -q list --available "$package" >/dev/null 2>&1
    fi || { echo "not-to-be-had no package source of this host has $package"; exit 0; }
  done
  echo missing
fi
