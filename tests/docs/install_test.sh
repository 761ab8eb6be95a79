#!/usr/bin/env bash
# What an installation holds, and that the unit makes sense to systemd where that is there.
# Arguments: build directory.
# shellcheck source=../gobctl/checks.sh source-path=SCRIPTDIR
source "$(dirname "$0")/../gobctl/checks.sh"
build=$1
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
expect 0 cmake --install "$build" --prefix "$prefix"

for file in bin/gobctl sbin/gobd share/man/man1/gobctl.1 share/man/man1/gobbench.1 \
    share/man/man3/libgob.3 share/man/man5/gobd.toml.5 share/man/man8/gobd.8 \
    share/bash-completion/completions/gobctl share/zsh/site-functions/_gobctl \
    share/fish/vendor_completions.d/gobctl.fish \
    share/bash-completion/completions/gobbench share/zsh/site-functions/_gobbench \
    share/fish/vendor_completions.d/gobbench.fish lib/systemd/system/gobd.service; do
  [[ -s $prefix/$file ]] || fail "$file is not installed"
done
expect 0 "$prefix/bin/gobctl" --version
expect 0 "$prefix/sbin/gobd" --version

unit=$prefix/lib/systemd/system/gobd.service
grep -qE '^ExecStart=/.*/gobd ' "$unit" || fail "no program in the unit"
if command -v systemd-analyze >/dev/null; then
  sed -i "s,^ExecStart=[^ ]*,ExecStart=$prefix/sbin/gobd," "$unit"
  expect 0 systemd-analyze verify --man=no "$unit"
  says_not "Unknown key"; says_not "Failed to parse"
fi
finish
