# stand-in: the order in which upstream's client reads its settings.
standin_read() {  # [REPOSITORY]
  for file in /etc/cvmfs/default.conf /etc/cvmfs/default.d/*.conf /etc/cvmfs/default.local; do
    [ -f "$file" ] && . "$file"
  done
  [ $# -gt 0 ] || return 0
  domain=${1#*.}
  for file in "/etc/cvmfs/domain.d/$domain.conf" "/etc/cvmfs/domain.d/$domain.local" \
    "/etc/cvmfs/config.d/$1.conf" "/etc/cvmfs/config.d/$1.local"; do
    [ -f "$file" ] && . "$file"
  done
  return 0
}
