# For the shells of the test: `. /srv/reader.sh`. Nothing here may wait for ever: a client that is
# refused behind a redirector asks again and again.
xrd() { # TOKEN, or - for none; then URL and where to
  token=/srv/secrets/$1.token
  [ "$1" = - ] && token=/nowhere
  timeout 60 podman exec --env BEARER_TOKEN_FILE="$token" client timeout "${seconds:-50}" xrdcp --silent --force "$2" "$3"
}
http() { # TOKEN, or -; URL; where to; more of curl's options. Prints the status.
  token=$1 url=$2 to=$3
  shift 3
  [ "$token" = - ] || set -- --header "Authorization: Bearer $(cat "/srv/secrets/$token.token")" "$@"
  timeout 60 podman exec client curl --silent --max-time 50 --location-trusted --cacert /srv/secrets/ca.pem \
    --output "$to" --write-out '%{http_code}\n' "$@" "$url"
}
opens() { podman logs vacuo-origin 2>&1 | grep -c "ofs_open: .*fn=$1\$"; }
