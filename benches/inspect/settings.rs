//! Configuration files of the programs of other projects: each on one worker, without logs unless said, with the same fifty
//! questions, of which the last one allows what is asked.

use super::ground::pod_address;
use super::program::{GRPC_PORT, HTTP1_PORT, HTTP2_PORT, RULES};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::path::Path;

/// Where a peer listens for what was sent to a port: redirected there.
pub(crate) const fn captured(port: u16) -> u16 {
    port + 7000
}

/// The rules that bring a pod's inbound connections to a peer.
pub(crate) fn redirect() -> String {
    let redirects = [HTTP1_PORT, HTTP2_PORT, GRPC_PORT]
        .map(|port| format!("    tcp dport {port} redirect to :{}\n", captured(port)));
    format!(
        "table ip capture {{\n  chain inbound {{\n    type nat hook prerouting priority dstnat\n{}  }}\n}}\n",
        redirects.concat()
    )
}

/// nginx as the app: files below `/svc50`, and an answer to every gRPC call.
pub(crate) fn origin(at: usize, folder: &Path) -> String {
    let address = pod_address(at);
    format!(
        "{}  root {folder}/files; open_file_cache max=16; sendfile on;\n  \
         server {{ listen {address}:{HTTP1_PORT} backlog=4096; }}\n  \
         server {{ listen {address}:{HTTP2_PORT} http2 backlog=4096; }}\n  \
         server {{ listen {address}:{GRPC_PORT} http2 backlog=4096;\n    \
         location / {{ default_type application/grpc; return 200 \"{}\"; }} }}\n}}\n",
        nginx_head(folder),
        "x".repeat(64),
        folder = folder.display(),
    )
}

/// nginx as a proxy without any rule. It speaks HTTP/2 to an origin only where that is gRPC.
pub(crate) fn nginx(at: usize, folder: &Path) -> String {
    let address = pod_address(at);
    let pass = "proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $http_host;";
    format!(
        "{}  upstream plain {{ server {address}:{HTTP1_PORT}; keepalive 1100; keepalive_requests 1000000000; }}\n  \
         upstream calls {{ server {address}:{GRPC_PORT}; keepalive 1100; keepalive_requests 1000000000; }}\n  \
         server {{ listen {} backlog=4096; location / {{ {pass} proxy_pass http://plain; }} }}\n  \
         server {{ listen {} http2 backlog=4096; location / {{ {pass} proxy_pass http://plain; }} }}\n  \
         server {{ listen {} http2 backlog=4096; location / {{ grpc_pass grpc://calls; }} }}\n}}\n",
        nginx_head(folder),
        captured(HTTP1_PORT),
        captured(HTTP2_PORT),
        captured(GRPC_PORT),
    )
}

fn nginx_head(folder: &Path) -> String {
    format!(
        "daemon off; master_process off; pid {0}/pid; error_log stderr crit; worker_rlimit_nofile 65536;\n\
         events {{ worker_connections 16384; }}\nhttp {{\n  access_log off; keepalive_timeout 3600; \
         keepalive_requests 1000000000;\n  client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; \
         fastcgi_temp_path {0}/fastcgi;\n  uwsgi_temp_path {0}/uwsgi; scgi_temp_path {0}/scgi;\n",
        folder.display()
    )
}

/// HAProxy with fifty access rules for each port. As it comes it shares connections to the origin between clients;
/// `alone` gives each client's connection one of its own, as the sidecar does.
pub(crate) fn haproxy(at: usize, alone: bool) -> String {
    let address = pod_address(at);
    let mut text = "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n  \
                    timeout client 1h\n  timeout server 1h\n"
        .to_owned();
    text += if alone { "  http-reuse never\n" } else { "  http-reuse always\n" };
    for (name, port, version) in
        [("one", HTTP1_PORT, ""), ("two", HTTP2_PORT, " proto h2"), ("rpc", GRPC_PORT, " proto h2")]
    {
        let _ = writeln!(text, "frontend {name}\n  bind :{}\n  default_backend {name}", captured(port));
        for rule in 1..=RULES {
            let (method, prefix) = method_and_prefix(port, rule);
            let _ = writeln!(
                text,
                "  acl r{rule} path_beg {prefix}\n  http-request allow if r{rule} {{ method {method} }}"
            );
        }
        let _ =
            writeln!(text, "  http-request deny\nbackend {name}\n  server origin {address}:{port}{version}");
    }
    text
}

/// Envoy with fifty policies of its access filter for each port, and a log of requests if a file is given. It asks the
/// policies in the order of their names.
pub(crate) fn envoy(at: usize, log: Option<&Path>) -> String {
    let ports = [HTTP1_PORT, HTTP2_PORT, GRPC_PORT];
    let listeners = ports.map(|port| envoy_listener(port, log));
    let clusters = ports.map(|port| envoy_cluster(port, at));
    json!({"static_resources": {"listeners": listeners, "clusters": clusters}}).to_string()
}

fn envoy_listener(port: u16, log: Option<&Path>) -> Value {
    let policies: Map<String, Value> = (1..=RULES)
        .map(|rule| {
            let (method, prefix) = method_and_prefix(port, rule);
            let both = json!([
                {"header": {"name": ":method", "string_match": {"exact": method}}},
                {"url_path": {"path": {"prefix": prefix}}},
            ]);
            let policy =
                json!({"principals": [{"any": true}], "permissions": [{"and_rules": {"rules": both}}]});
            (format!("rule-{rule:02}"), policy)
        })
        .collect();
    let filters = json!([
        {"name": "envoy.filters.http.rbac", "typed_config": {
            "@type": extension("filters.http.rbac.v3.RBAC"),
            "rules": {"action": "ALLOW", "policies": policies},
        }},
        {"name": "envoy.filters.http.router", "typed_config": {"@type": extension("filters.http.router.v3.Router")}},
    ]);
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": format!("to-{port}")}});
    let log = log.map(|path| {
        json!({"name": "envoy.access_loggers.file", "typed_config": {
            "@type": extension("access_loggers.file.v3.FileAccessLog"), "path": path.display().to_string(),
        }})
    });
    let manager = json!({
        "access_log": log.into_iter().collect::<Vec<Value>>(),
        "@type": extension("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": format!("port-{port}"),
        "codec_type": "AUTO",
        "generate_request_id": false,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": filters,
    });
    let chain = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager});
    json!({
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": captured(port)}},
        "tcp_backlog_size": 4096,
        "filter_chains": [{"filters": [chain]}],
    })
}

fn envoy_cluster(port: u16, at: usize) -> Value {
    let version = if port == HTTP1_PORT { "http_protocol_options" } else { "http2_protocol_options" };
    let enough = json!({"max_connections": 16384, "max_pending_requests": 16384, "max_requests": 16384});
    let origin = json!({"socket_address": {"address": pod_address(at).to_string(), "port_value": port}});
    json!({
        "name": format!("to-{port}"),
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [enough]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": extension("upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": {version: {}},
        }},
        "load_assignment": {
            "cluster_name": format!("to-{port}"),
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": origin}}]}],
        },
    })
}

fn extension(name: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{name}")
}

fn method_and_prefix(port: u16, rule: usize) -> (&'static str, String) {
    match port {
        GRPC_PORT => ("POST", format!("/bench.v1.Service{rule}/")),
        _ => ("GET", format!("/svc{rule}/")),
    }
}
