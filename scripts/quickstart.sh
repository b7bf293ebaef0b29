#!/usr/bin/env bash
# From a bare Debian 12 or Ubuntu 24.04 to a Lua workflow that talks to a real MLflow AI Gateway:
# installs what is missing, builds moonflow, starts the gateway and a small model server behind it
# on free loopback ports, runs scripts/quickstart.lua against them, and stops what it started.

# shellcheck source=scripts/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

build_moonflow() {
    say "Building moonflow in build/"
    build build -DCMAKE_BUILD_TYPE=Release >"$work/build.log" 2>&1 || { cat "$work/build.log" >&2; die "the build failed"; }
}

start_servers() {
    port=$(free_port)
    say "Starting a model server and MLflow's gateway on http://127.0.0.1:$port"
    start_upstream
    start_gateway quickstart "$port" < <(gateway_config quickstart)
    wait_for quickstart "$port" /health
}

# shellcheck disable=SC2046 # a list of words
need_packages "${BUILD_PACKAGES[@]}" $(python_packages)
need_mlflow
build_moonflow
start_servers
say "Running: build/bin/moonflow scripts/quickstart.lua http://127.0.0.1:$port"
echo
build/bin/moonflow scripts/quickstart.lua "http://127.0.0.1:$port"
echo
say "Done; stopping the servers"
