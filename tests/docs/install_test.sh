#!/usr/bin/env bash
# What an installation holds, and that the units make sense to systemd where that is there.
# Arguments: build directory.
# shellcheck source=../gobctl/checks.sh source-path=SCRIPTDIR
source "$(dirname "$0")/../gobctl/checks.sh"
build=$1
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
expect 0 cmake --install "$build" --prefix "$prefix"

installed() { [[ -s $prefix/$1 ]] || fail "$1 is not installed"; }
for program in bin/gobctl bin/gobbench sbin/gobmigrate sbin/gobd; do
  installed $program
  expect 0 env LD_LIBRARY_PATH="$prefix/lib" "$prefix/$program" --version
done
for program in gobctl gobbench gobmigrate; do
  installed share/man/man1/$program.1
  installed share/bash-completion/completions/$program
  installed share/zsh/site-functions/_$program
  installed share/fish/vendor_completions.d/$program.fish
done
for file in man3/libgob.3 man5/gobd.toml.5 man8/gobd.8; do installed share/man/$file; done
for file in gobd.toml gobd-memory-only.conf; do installed share/doc/gobelins/examples/$file; done

units=$prefix/lib/systemd/system
for program in sbin/gobd sbin/gobmigrate; do
  unit=$units/$(basename $program).service
  installed "lib/systemd/system/$(basename $program).service"
  grep -qE "^ExecStart=/.*/$program " "$unit" || fail "no program in $unit"
  sed -i "s,^ExecStart=[^ ]*,ExecStart=$prefix/$program," "$unit"
done
if command -v systemd-analyze >/dev/null; then
  verify() {
    expect 0 systemd-analyze verify --man=no "$units/gobd.service" "$units/gobmigrate.service"
    says_not "Unknown key"; says_not "Failed to parse"; says_not "Unknown system call"; says_not "Failed to"
  }
  verify
  mkdir "$units/gobd.service.d"
  cp "$prefix/share/doc/gobelins/examples/gobd-memory-only.conf" "$units/gobd.service.d"
  verify
fi
finish
