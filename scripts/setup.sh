# What quickstart.sh and test.sh share: messages, packages, the Python and npm parts, the build, and
# servers that run beside the script and are stopped at its end. Sourced, not run.
# shellcheck shell=bash

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly AIMOCK_VERSION=1.43.0
readonly STEADY_VERSION=0.22.2
readonly BUILD_PACKAGES=(gcc libc6-dev cmake make liblua5.4-dev libcurl4-openssl-dev lua-cjson-dev lua-argparse
    libedit-dev libmicrohttpd-dev ca-certificates)

work=$(mktemp -d) # logs and files of this run
servers=()        # process groups to stop
inputs=()         # descriptors that keep servers of start_until_eof running

say() {
    printf '== %s\n' "$*"
}

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# --- Stopping what was started ------------------------------------------------------------------

stop_servers() {
    local group
    for group in "${servers[@]}"; do
        kill -TERM -- "-$group" 2>/dev/null || true
    done
    for group in "${servers[@]}"; do
        stop_group "$group"
    done
    servers=()
}

# A server that is asked to end gets three seconds.
stop_group() {
    local tries
    for ((tries = 0; tries < 30; tries++)); do
        kill -0 -- "-$1" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL -- "-$1" 2>/dev/null || true
}

clean_up() {
    trap '' INT TERM HUP PIPE
    stop_servers
    rm -rf "$work"
}

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
trap 'exit 141' PIPE # a reader that left must not leave our servers behind

# --- Packages -----------------------------------------------------------------------------------

missing_packages() {
    local package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || printf '%s ' "$package"
    done
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

may_be_root() {
    [ "$(id -u)" -eq 0 ] && return
    command -v sudo >/dev/null || return
    sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; }
}

# Installs those of the named packages that are not there.
need_packages() {
    local missing
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || die "this script knows apt only; install by hand: $missing"
    if ! may_be_root; then
        die "packages are missing and neither root nor sudo is at hand. Run this line, then try again:
  apt-get update && apt-get install -y --no-install-recommends $missing"
    fi
    say "Installing packages: $missing"
    as_root apt-get update -qq
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >"$work/apt.log" 2>&1 ||
        { cat "$work/apt.log" >&2; die "apt-get could not install: $missing"; }
}

# The packages of a Python that can make virtual environments (Debian keeps that in a package of its
# own), unless such a Python is here.
python_packages() {
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3 python3-venv
}

# MLflow with its gateway, in .venv. The copy of the list in there says that it is complete.
need_mlflow() {
    cmp -s tests/requirements.txt .venv/requirements.txt && return
    say "Installing MLflow into .venv (about 900 MB, once)"
    python3 -m venv .venv
    .venv/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
    cp tests/requirements.txt .venv/requirements.txt
}

has_node() {
    command -v npm >/dev/null && node -e '
        const [major, minor] = process.versions.node.split(".").map(Number)
        process.exit(major > 20 || (major === 20 && minor >= 15) ? 0 : 1)' 2>/dev/null
}

# need_npm NAME PACKAGE VERSION: out of npm, in .tests/NAME. Fails where it can not be had.
need_npm() {
    has_node || return
    local have
    have=$(node -p "require('./.tests/$1/node_modules/$2/package.json').version" 2>/dev/null || true)
    [ "$have" = "$3" ] && return
    say "Installing $1 $3 into .tests/$1"
    mkdir -p ".tests/$1"
    npm install --prefix ".tests/$1" --no-audit --no-fund --silent "$2@$3"
}

# A mock model server.
need_aimock() {
    need_npm aimock @copilotkit/aimock "$AIMOCK_VERSION"
}

# A mock server that checks every request by an OpenAPI description. It is a program of its own, which
# npm leaves out where there is none for this machine.
need_steady() {
    need_npm steady @stdy/cli "$STEADY_VERSION" && .tests/steady/node_modules/.bin/steady --version >/dev/null 2>&1
}

# --- Build --------------------------------------------------------------------------------------

# build DIRECTORY [CMAKE-OPTION...]; warnings are errors in continuous integration.
build() {
    local dir=$1 werror=OFF
    shift
    [ "${CI:-}" = true ] && werror=ON
    cmake -S . -B "$dir" -DMOONFLOW_WERROR=$werror "$@"
    cmake --build "$dir" --parallel "$(nproc)"
}

# --- Servers ------------------------------------------------------------------------------------

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Becomes the command, which must not hold the inputs of other servers open.
in_own_group() {
    local input
    for input in "${inputs[@]}"; do
        exec {input}>&-
    done
    exec setsid "$@"
}

# start NAME COMMAND...: runs it in a process group of its own, output in $work/NAME.log.
start() {
    local name=$1
    shift
    in_own_group "$@" </dev/null >"$work/$name.log" 2>&1 &
    servers+=("$!")
}

# start_until_eof NAME COMMAND...: the same for a server that ends when its standard input closes,
# which it does with this script even if that is killed.
start_until_eof() {
    local name=$1 input
    shift
    exec {input}> >(in_own_group "$@" >"$work/$name.log" 2>&1)
    servers+=("$!")
    inputs+=("$input")
}

# The URL in the first line that the server NAME prints, in quotes or alone.
url_of() {
    local tries url
    for ((tries = 0; tries < 100; tries++)); do
        url=$(sed -nE '1s,.*(http://[^" ]*).*,\1,p' "$work/$1.log")
        [ -n "$url" ] && { printf '%s\n' "$url"; return; }
        sleep 0.1
    done
    cat "$work/$1.log" >&2
    die "$1 did not start"
}

# answers PORT PATH: does it answer 200?
answers() {
    local line
    (
        exec 3<>"/dev/tcp/127.0.0.1/$1"
        printf 'GET %s HTTP/1.0\r\n\r\n' "$2" >&3
        read -r -t 5 line <&3
        [[ $line == *" 200 "* ]]
    ) 2>/dev/null
}

# wait_for NAME PORT PATH
wait_for() {
    local tries
    for ((tries = 0; tries < 600; tries++)); do
        answers "$2" "$3" && return
        sleep 0.1
    done
    cat "$work/$1.log" >&2
    die "$1 did not answer within a minute"
}

# start_upstream: the model server behind the gateway, at $upstream.
start_upstream() {
    start_until_eof upstream python3 tests/servers/upstream.py --until-eof
    upstream=$(url_of upstream)
}

# The configuration tests/gateway/NAME.yaml with the addresses of the model servers.
gateway_config() {
    sed -e "s,@UPSTREAM@,$upstream," -e "s,@AIMOCK@,${aimock:-http://127.0.0.1:1/v1}," "tests/gateway/$1.yaml"
}

# start_gateway NAME PORT <CONFIG: MLflow's gateway; then wait_for NAME PORT /health.
# It has a directory of its own as it watches the one of its configuration, and writes to $HOME.
start_gateway() {
    local dir=$work/gateway-$1
    mkdir -p "$dir"
    cat >"$dir/gateway.yaml"
    start "$1" env HOME="$dir" MLFLOW_DISABLE_TELEMETRY=true PYTHONWARNINGS=ignore \
        .venv/bin/mlflow gateway start --config-path "$dir/gateway.yaml" --host 127.0.0.1 --port "$2" --workers 1
}
