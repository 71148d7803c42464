#!/bin/sh
# ansible-lint (profile production) and yamllint over the collection, found under its own name.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
collections=$(mktemp -d)
trap 'rm -rf "$collections"' EXIT
mkdir -p "$collections/ansible_collections/vacuo"
ln -s "$here" "$collections/ansible_collections/vacuo/site"
export ANSIBLE_COLLECTIONS_PATH="$collections"
cd "$here"
yamllint --strict --config-file "$here/../.yamllint" . "$here/../.config"
ansible-lint --offline --profile production
