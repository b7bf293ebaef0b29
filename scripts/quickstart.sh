#!/usr/bin/env bash
# From a bare Debian 12 or Ubuntu 24.04 to a Lua workflow that talks to a deployments server: installs
# what is missing, builds moonflow, starts its own server on a free loopback port, runs
# scripts/quickstart.lua against it, and stops what it started.

# shellcheck source=scripts/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

build_moonflow() {
    say "Building moonflow in build/"
    build build -DCMAKE_BUILD_TYPE=Release >"$work/build.log" 2>&1 || { cat "$work/build.log" >&2; die "the build failed"; }
}

need_packages "${BUILD_PACKAGES[@]}"
build_moonflow
say "Starting: build/bin/moonflow serve --port 0"
start serve build/bin/moonflow serve --port 0
url=$(url_of serve)
say "Running: build/bin/moonflow scripts/quickstart.lua $url"
echo
build/bin/moonflow scripts/quickstart.lua "$url"
echo
say "Done; stopping the server"
