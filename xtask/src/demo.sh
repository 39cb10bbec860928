#!/bin/sh
# What `cargo xtask demo` shows, as commands to type oneself: demo.sh IMAGE-LAYOUT INSPECT-FILE
set -eu
layout=$1 inspected=$2

THECA_ROOT=$(mktemp -d) THECA_STATE=$(mktemp -d)
export THECA_ROOT THECA_STATE
daemon=
trap 'theca rm -f demo >/dev/null 2>&1 || true; theca sandbox rm -f pod >/dev/null 2>&1 || true
    [ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true; rm -rf "$THECA_ROOT" "$THECA_STATE"' EXIT

say() { printf '\n%s\n' "$*"; }
show() { printf '$ %s\n' "$1" && eval "$1"; }

say 'A Debian that was made from its packages goes into the image store:'
show "theca image import --name debian:13 '$layout'"

say "This machine's kernel is $(uname -r); a container has its own:"
show 'theca run --rm debian:13 uname -r'
show 'theca run --rm debian:13 cat /etc/os-release'

say 'It has the CPUs and the memory that it was given:'
cpus=$(nproc)
[ "$cpus" -le 2 ] || cpus=2
show "theca run --rm --cpus $cpus --memory 256m debian:13 sh -c 'nproc; grep MemTotal /proc/meminfo'"

say 'stdin goes through a pipe:'
show "printf 'pear\napple\nfig\n' | theca run --rm -i debian:13 sort"

say 'and the exit code comes back:'
code=0
show "theca run --rm debian:13 sh -c 'exit 42'" || code=$?
echo "exit code $code"
[ "$code" = 42 ]

say 'A start that is timed; its phases are in the table at the end:'
show 'theca run -d --name demo debian:13 sleep 1000'
theca inspect demo >"$inspected"

say 'The same machinery as a service: thecad, and a sandbox of two containers:'
thecad --log error &
daemon=$!
tries=0
until theca sandbox ps >/dev/null 2>&1; do
    kill -0 "$daemon" && [ "$tries" -lt 600 ]
    tries=$((tries + 1))
    sleep 0.1
done
show 'theca sandbox create --memory 192m pod'
show 'theca sandbox start pod'
show "theca sandbox run --name web pod debian:13 sh -c 'while :; do :; done'"
show 'theca sandbox run --name db pod debian:13 sleep 1000'
show 'theca sandbox ps'
show 'theca sandbox stats --no-stream'
show 'theca sandbox rm -f pod'
kill "$daemon"
wait "$daemon"
