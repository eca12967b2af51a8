#!/usr/bin/env bash
# Fuzzes each target for a while: first everything that was ever found, then new inputs from seeds.
#   [FUZZ_RECORD=1] run.sh SECONDS [TARGET...]
# Inputs that are worth keeping go to target/fuzz/corpus/TARGET; what fails goes to tests/fuzz/findings/TARGET/, to be
# committed with its repair. FUZZ_RECORD=1 adds a line for each target that ran to its end without a finding to tests/fuzz/HOURS.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds="${1:?usage: run.sh SECONDS [TARGET...]}"
shift
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || targets=(documents inventory hosts paths cidrs templates dns http1 http1_servers program hpack http2 tls redis postgres kafka
    http1_session http2_session tls_session redis_session postgres_session kafka_session dns_session websocket_session sessions)
suites="${BULKHEAD_SUITES:-../shared/suites}"
triple="$(rustc -vV | sed -n 's/^host: //p')"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/fuzz"

# What cargo-fuzz passes, without the address sanitizer: the code under test has no unsafe block.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 \
-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
cargo build --quiet --locked --release --target "$triple" --manifest-path tests/fuzz/Cargo.toml

event() { # event KIND TEXT: what a target of a session begins or goes on with; 1 a client says, 3 a server, 5 a policy, 6 time
    printf "\\x$(printf %02x "$1")\\x$(printf "$2" | wc -c | xargs printf %02x)$2"
}

seeds() { # seeds TARGET FOLDER
    case "$1" in
        http1_session)
            { printf '\1'; event 1 'GET /a HTTP/1.1\r\nhost: a\r\n\r\nPOST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nx'
                event 3 'HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx'; event 1 xPUT; printf '\5\7'
                event 3 'HTTP/1.1 100 C\r\n\r\nHTTP/1.1 204 N\r\n\r\n'
                event 1 ' /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\nt: v\r\n\r\n'; } >"$2/bodies"
            { printf '\0'; event 1 'GET /a HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nGET /b'; printf '\5\1\6\144'
                event 3 'HTTP/1.1 404 N\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n'; event 1 ' HTTP/1.1\r\nhost: a\r\n\r\nCONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\nxx'
                event 3 'HTTP/1.1 200 O\r\n\r\n'; } >"$2/tunnels"
            ;;
        http2_session)
            local head='\202\206\101\11shop.test\104\2/a' settings='\0\0\0\4\1\0\0\0\0'
            { printf '\1'; event 1 "$settings\\0\\0\\21\\1\\4\\0\\0\\0\\1$head\\0\\0\\4\\1\\5\\0\\0\\0\\3\\202\\206\\277\\276"
                event 3 "$settings\\0\\0\\1\\1\\5\\0\\0\\0\\1\\210"; event 1 '\0\0\2\0\1\0\0\0\1xx\0\0\4\3\0\0\0\0\3\0\0\0\10'; printf '\7\1\5\1'
                event 3 '\0\0\10\6\1\0\0\0\0blkh\0\0\0\1'; event 1 '\0\0\4\10\0\0\0\0\0\0\0\1\0\0\0\10\6\0\0\0\0\0pingping'; printf '\7\0'; } >"$2/streams"
            { printf '\0'; event 1 "\\0\\0\\3\\1\\0\\0\\0\\0\\1\\202\\206\\101"; printf '\5\1'; event 1 '\0\0\16\11\4\0\0\0\1\11shop.test\104\2/a'; } >"$2/gate"
            ;;
        redis_session)
            { printf '\1'; event 1 '*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\nb'; event 1 'c\r\nMULTI\r\nGET a\r\nSELECT 1\r\nEXEC\r\n'; event 3 '+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$-1\r\n+OK\r\n'
                printf '\5\3'; event 1 'SUBSCRIBE c\r\nCLIENT REPLY OFF\r\n'; event 3 '>3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n'; } >"$2/commands"
            ;;
        postgres_session)
            { printf '\1'; event 1 '\0\0\0\10\4\322\26\57'; event 3 N; event 1 '\0\0\0\23\0\3\0\0user\0apps\0\0'; event 3 'R\0\0\0\10\0\0\0\0Z\0\0\0\5I'
                event 1 'Q\0\0\0\15select 1\0P\0\0\0\21a\0delete b\0\0\0B\0\0\0\15\0a\0\0\0\0\0\0\0E\0\0\0\11\0\0\0\0\0S\0\0\0\4'
                event 3 'C\0\0\0\6a\0Z\0\0\0\5IE\0\0\0\5\0Z\0\0\0\5I'; printf '\5\3'; event 1 'X\0\0\0\4'; } >"$2/messages"
            ;;
        kafka_session)
            { printf '\1'; event 1 '\0\0\0\35\0\3\0\5\0\0\0\7\0\4test\0\0\0\1\0\10orders.a\1\0\0\0\16\0\22\0\0\0\0\0\10\0\4test'; event 3 '\0\0\0\4\0\0\0\7'; printf '\5\2'
                event 3 '\0\0\0\12\0\0\0\10\0\0\0\0\0\0'; } >"$2/requests"
            ;;
        tls_session)
            { printf '\1'; event 1 '\26\3\1\0\103\1\0\0\77\3\3aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\0\0\2\300\57\1\0\0\24\0\0\0\20\0\16\0\0\13example.com'
                event 3 '\26\3\3\0\1\2'; } >"$2/hello"
            ;;
        dns_session)
            local head='\1\0\0\1\0\0\0\0\0\0' name='\3api\2ok\4test\0\0\1\0\1' options='\0\0\51\4\320\0\0\200\0\0\0'
            { printf '\0'; event 0 "ab$head$name"; event 2 "cd$head\3bad\2ok\4test\0\0\34\0\1"; event 3 '\0\0\0\1\300\14\0\1\0\1\0\0\0\74\0\4\313\0\161\7'
                event 3 '\1\0\0\2\300\14\0\5\0\1\0\0\0\12\0\4\1b\300\20\1b\300\20\0\34\0\1\0\0\0\74\0\20\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\1'
                printf '\6\40\7\1'; event 0 "ef$head\1x\4evil\4test\0\0\20\0\1"; } >"$2/datagrams"
            { printf '\1'; event 1 '\0\50gh\1\40\0\1\0\0\0\0\0\1\3svc\2ok\4test\0\0\101\0\1'"$options"; event 2 "ij$head$name"; printf '\5\0'
                event 3 '\1\0\0\1\300\14\0\1\0\1\0\0\0\74\0\4\12\0\0\5'
                event 3 '\0\0\0\1\300\14\0\101\0\1\0\0\0\74\0\13\0\1\0\0\4\0\4\313\0\161\7'; event 3 '\0\0\0\0'; } >"$2/stream"
            { printf '\3'; event 2 "kl$head$name"; event 4 '\0\14'; event 1 'SSH-2.0-x'; printf '\5\0'; } >"$2/tunnel"
            ;;
        websocket_session)
            printf '\0\0\201\5hello\1\201\2hi\0\211\1p\0\1\1a\0\200\1b\1\212\0\0\210\2\3\350' >"$2/http1"
            printf '\1\4\201\5hello\3\202\2hi\2\1\1a\4\200\1b\6\210\7\3\350ended\3\210\0' >"$2/http2"
            printf '\2\0\301\3abc\1\302\3def\0\1\1a\0\200\1b\0\300\1c' >"$2/compressed"
            printf '\0\0\201\2ok\16\201\1x\0\201\1y' >"$2/mask" && printf '\1\0\201\2ok\40\201\1x\0\201\1y' >"$2/length"
            ;;
        documents) find policies/examples policies/testdata -name '*.yaml' -size -16k -exec cp --backup=numbered {} "$2" \; ;;
        inventory) find policies/examples policies/testdata deploy -name 'inventory*.yaml' -size -16k -exec cp --backup=numbered {} "$2" \; ;;
        http1)
            [ ! -d "$suites/go-fuzz-corpus" ] || find "$suites/go-fuzz-corpus/httpreq" -type f -size -8k -exec cp --backup=numbered {} "$2" \;
            printf '\1GET /a HTTP/1.1\r\nhost: a\r\n\r\nPOST /no HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nxx' >"$2/two"
            ;;
        http2)
            [ ! -d "$suites/nghttp2-fuzz-corpus" ] || find "$suites/nghttp2-fuzz-corpus/fuzz/corpus" "$suites/go-fuzz-corpus/http2" -type f -size -8k -exec cp --backup=numbered {} "$2" \;
            ;;
        hpack) printf '\202\206\101\11shop.test\104\2/a\277\276\210' >"$2/table" ;;
        http1_servers)
            [ ! -d "$suites/go-fuzz-corpus" ] || find "$suites/go-fuzz-corpus/httpreq" -type f -size -8k -exec cp --backup=numbered {} "$2" \;
            printf 'POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nxx\r\n0\r\n\r\nGET /b?c HTTP/1.1\r\nhost: a\r\n\r\n' >"$2/chunks"
            printf 'PUT /a HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nxxHEAD * HTTP/1.1\r\nhost: a\r\n\r\n' >"$2/length"
            ;;
        tls)
            [ ! -d "$suites/go-fuzz-corpus" ] || find "$suites/go-fuzz-corpus/tlsclient" -type f -size -8k -exec cp --backup=numbered {} "$2" \;
            ;;
        redis)
            printf '\1*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\nbc\r\n*1\r\n$4\r\nPING\r\n+OK\r\n*2\r\n:1\r\n$-1\r\n' >"$2/array"
            printf '\1*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\nGET a\r\n|1\r\n+a\r\n:1\r\n%%1\r\n+a\r\n>0\r\n' >"$2/line"
            ;;
        postgres)
            printf 'Q\0\0\0\15select 1\0P\0\0\0\21a\0select 1\0\0\0B\0\0\0\15\0a\0\0\0\0\0\0\0E\0\0\0\11\0\0\0\0\0S\0\0\0\4' >"$2/messages"
            printf "with a as (delete from b) select E'\\\\'' , \$x\$ ; \$x\$, U&'a' -- ;\n; copy a to program 'x' /* ; */" >"$2/statement"
            ;;
        kafka) printf '\1\0\0\0\35\0\3\0\5\0\0\0\7\0\4test\0\0\0\1\0\10orders.a\1' >"$2/metadata" ;;
        dns)
            printf '\22\64\1\0\0\1\0\0\0\0\0\1\3api\4test\0\0\1\0\1\0\0\51\4\320\0\0\200\0\0\0\1' >"$2/question"
            printf '\22\64\201\200\0\1\0\1\0\0\0\0\3api\4test\0\0\1\0\1\300\14\0\1\0\1\0\0\0\74\0\4\313\0\161\7\0' >"$2/answer"
            ;;
        sessions) for kind in http1 http2 tls redis postgres kafka; do seeds "${kind}_session" "$2"; done ;;
        hosts) printf 'b\xc3\xbccher.example:80' >"$2/name" && printf '[fd00::1]:80' >"$2/address" && printf '*.a.test' >"$2/pattern" ;;
        paths) printf '/a/%%2e%%2e/b//c/./d;x' >"$2/path" && printf '/api/%%C3%%A9' >"$2/utf8" ;;
        cidrs) printf '10.0.0.0/8' >"$2/v4" && printf 'fd00::/48' >"$2/v6" && printf '::ffff:10.0.0.0/104' >"$2/mapped" ;;
        templates) printf '/orders/{id}/orders/7' >"$2/one" && printf '/a/**/a/b/c' >"$2/below" ;;
        program) printf '\10\1\22\4shop\32\3web' >"$2/head" ;;
    esac
}

record() { # record TARGET: what it executed, and the processor seconds that it took
    local executions cpu_s
    executions="$(sed -n 's/^stat::number_of_executed_units: *//p' "$CARGO_TARGET_DIR/$1.log")"
    cpu_s="$(awk '{ printf "%.0f", $1 + $2 }' "$CARGO_TARGET_DIR/$1.time")"
    echo "| $(date -u +%F) | $1 | $executions | $cpu_s |" >>tests/fuzz/HOURS.md
}

TIMEFORMAT='%U %S'
failed=0
for target in "${targets[@]}"; do
    corpus="$CARGO_TARGET_DIR/corpus/$target"
    findings="tests/fuzz/findings/$target"
    # Made anew: `cp --backup` would keep those of the last run beside the new ones.
    rm -rf "$CARGO_TARGET_DIR/seeds/$target"
    mkdir -p "$corpus" "$CARGO_TARGET_DIR/seeds/$target" "$findings"
    seeds "$target" "$CARGO_TARGET_DIR/seeds/$target"
    echo "== $target, $seconds s"
    { time "$CARGO_TARGET_DIR/$triple/release/$target" "$corpus" "$CARGO_TARGET_DIR/seeds/$target" "$findings" \
        -artifact_prefix="$findings/" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -max_len=16384 -print_final_stats=1 2>&1; } 2>"$CARGO_TARGET_DIR/$target.time" | tee "$CARGO_TARGET_DIR/$target.log" \
        | grep -E 'panicked|ERROR|Test unit written|stat::number_of_executed_units|stat::new_units' || true
    if grep -q 'stat::number_of_executed_units' "$CARGO_TARGET_DIR/$target.log" && ! grep -qE 'ERROR: |panicked' "$CARGO_TARGET_DIR/$target.log"; then
        [ -z "${FUZZ_RECORD:-}" ] || record "$target"
    else
        failed=1
    fi
    rmdir --ignore-fail-on-non-empty "$findings"
done
[ ! -d tests/fuzz/findings ] || rmdir --ignore-fail-on-non-empty tests/fuzz/findings
exit "$failed"
