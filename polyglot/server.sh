# start_server starts a server on a free port, with a new home folder and the given flags, and stops it at
# the end of the script that sources this file. It sets SERVER_HOME (that folder), CALLPARK_ENDPOINT and
# CALLPARK_TOKEN.
#
# CALLPARK_BIN is the path of the server's program. Without it, a debug build is made and used.

stop_server() {
    if [[ -n ${server_pid:-} ]]; then
        kill "$server_pid" 2>/dev/null || true
        wait "$server_pid" 2>/dev/null || true
    fi
    rm -rf "$home"
}

start_server() {
    if [[ -z ${CALLPARK_BIN:-} ]]; then
        cargo build --quiet --package callpark
        CALLPARK_BIN=${CARGO_TARGET_DIR:-target}/debug/callpark
    fi
    home=$(mktemp -d)
    trap stop_server EXIT
    # The default data folder of a server.
    local data=$home/.local/state/callpark
    touch "$home/log" # The loop below may read it before the server is started.
    "$CALLPARK_BIN" serve --listen 127.0.0.1:0 --data-dir "$data" "$@" 2>"$home/log" </dev/null &
    server_pid=$!
    for ((tries = 0; tries < 300; tries++)); do
        CALLPARK_ENDPOINT=$(sed -n 's/^callpark listens on //p' "$home/log")
        if [[ -n $CALLPARK_ENDPOINT ]]; then
            CALLPARK_TOKEN=$(<"$data/token")
            export CALLPARK_ENDPOINT CALLPARK_TOKEN SERVER_HOME=$home
            return
        fi
        kill -0 "$server_pid" 2>/dev/null || break
        sleep 0.1
    done
    echo "the server did not start:" >&2
    cat "$home/log" >&2
    exit 1
}
