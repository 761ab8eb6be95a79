#!/bin/sh
# Installs libgob into a fresh prefix and builds the example against it from outside of the tree:
# with pkg-config and with find_package, shared and static. Each must start and, with no gobd to be
# found, say so.
# usage: install_test.sh SOURCE_DIR BUILD_DIR CMAKE CXX [flags of the sanitizer build]
set -eu
source_dir=$1 build_dir=$2 cmake=$3 cxx=$4
shift 4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix

"$cmake" --install "$build_dir" --component libgob --prefix "$prefix" >/dev/null
cp "$source_dir"/examples/* "$work"

expect_clear_refusal() {
  if GOB_SOCKET=$work/none.sock "$1" 0 1 2>"$work/stderr"; then
    echo "$1 succeeded without a gobd" >&2
    exit 1
  fi
  grep -q 'Is gobd running' "$work/stderr" || { cat "$work/stderr" >&2; exit 1; }
}

library_dir=$(dirname "$(find "$prefix" -name 'libgob.so')")
export PKG_CONFIG_PATH="$library_dir/pkgconfig"
echo "pkg-config, shared: $(pkg-config --cflags --libs gob)"
"$cxx" -std=c++20 "$@" "$work/hello_shared.cc" -o "$work/shared" $(pkg-config --cflags --libs gob) \
  -Wl,-rpath,"$library_dir"
expect_clear_refusal "$work/shared"

echo "pkg-config, static: $(pkg-config --static --libs gob)"
"$cxx" -std=c++20 "$@" "$work/hello_shared.cc" -o "$work/static" \
  $(pkg-config --cflags gob) -L"$library_dir" -l:libgob.a \
  $(pkg-config --static --libs-only-l gob | sed 's/-lgob//')
expect_clear_refusal "$work/static"

build_with_find_package() {
  "$cmake" -S "$work" -B "$work/$1" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_CXX_COMPILER="$cxx" \
    -DCMAKE_CXX_STANDARD=20 -DCMAKE_CXX_FLAGS="$2" >/dev/null
  "$cmake" --build "$work/$1" >/dev/null
  expect_clear_refusal "$work/$1/hello_shared"
}
echo "find_package, shared"
build_with_find_package build-shared "$*"
echo "find_package, static"
sed -i 's/PRIVATE Gobelins::gob)/PRIVATE Gobelins::gob_static)/' "$work/CMakeLists.txt"
build_with_find_package build-static "$*"
if ldd "$work/build-static/hello_shared" | grep -q libgob; then
  echo "the static build needs libgob.so" >&2
  exit 1
fi
