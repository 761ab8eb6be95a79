#!/usr/bin/env bash
# Installs the Debian packages of scripts/packages.txt that are missing. Asks for root only then.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "install-deps: this is not a Debian system; install what scripts/packages.txt names by hand" >&2
  exit 1
fi
missing=()
while read -r package; do
  [ -n "$package" ] || continue
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done <"$here/packages.txt"
[ ${#missing[@]} -gt 0 ] || exit 0

echo "These packages are missing and will be installed: ${missing[*]}"
root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "install-deps: installing packages needs root, and there is no sudo; run as root:" >&2
    echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  }
  echo "Installing packages needs root; sudo may ask for your password."
  root=(sudo)
fi
export DEBIAN_FRONTEND=noninteractive
"${root[@]}" apt-get update -qq
"${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
