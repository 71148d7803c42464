#!/bin/bash
# setup/remove-engine.sh [--yes]: remove every container, network, image and store of Vacuo's own
# engine from this machine. Without --yes it only lists what would go. A person's own podman
# containers are in other stores and stay.
set -euo pipefail
cd "$(dirname "$0")/.."

[ "$(id -u)" = 0 ] || { echo "This needs root. Try: sudo $0 $*" >&2; exit 1; }
if ! command -v podman >/dev/null; then
  echo "podman is not installed, so there is nothing of Vacuo's engine to remove." >&2
  exit 0
fi
found=$(python3 -m orchestrator.providers.container_engine --json)
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1" <<<"$found"; }
directory=$(field directory)
runtime=$(field runtime_directory)
eval "$(python3 -m orchestrator.providers.container_engine --env)"

echo "Engine in $directory:"
podman ps --all --format '  container {{.Names}} ({{.Status}})'
podman images --format '  image {{.Repository}}:{{.Tag}}'
[ "${1:-}" = --yes ] || { echo "Nothing was removed. To remove all of it: $0 --yes"; exit 0; }

podman rm --all --force --volumes --time 0 >/dev/null
podman network prune --force >/dev/null
if [ -f "$runtime/service.pid" ]; then
  service=$(cat "$runtime/service.pid")
  # The number may be another process's by now.
  if tr '\0' ' ' <"/proc/$service/cmdline" 2>/dev/null | grep -q "$runtime/podman.sock"; then
    kill "$service"
  fi
fi
for store in storage shared-images; do
  umount "$directory/$store/overlay" 2>/dev/null || true
done
rm -rf "$directory" "$runtime"
echo "Removed."
