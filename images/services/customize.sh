#!/bin/sh
# $1: the root of the image.
set -eu
root=$1

# A pool's configuration comes with the container; the package's own would start a personal pool.
rm -f "$root"/etc/condor/config.d/* "$root"/etc/condor/passwords.d/* "$root"/etc/condor/tokens.d/*
: > "$root/etc/machine-id"
