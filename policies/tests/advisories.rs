//! Published bypasses of other firewalls, as far as deciding is concerned: each test is named by the advisory.
//!
//! A request that has no canonical form is refused before any rule is asked; here that counts as denied, as it does in
//! the sidecar. What parsers of whole messages have to refuse is tested where they are.

use bulkhead_facts::{
    Cidr, Direction, Effect, HeaderField, HostName, HttpRequest, L4Protocol, Request, UrlPath,
};
use bulkhead_policies::compile::Compiler;
use bulkhead_policies::decide::Judge;
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::documents::{load, load_inventory};
use bulkhead_policies::inventory::ObjectName;

const INVENTORY: &str = r#"
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop}, spec: {containers: [{name: c}]}, status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}}
"#;

/// A judge of `shop/web` with these ingress rules of the admin tier.
fn admin(rules: &str) -> Judge {
    judge(&format!(
        "apiVersion: bulkhead.dev/v1alpha1\nkind: ClusterSegmentPolicy\nmetadata: {{name: p}}\nspec: {{tier: admin, priority: 1, \
         subjects: {{namespaces: {{}}}}, ingress: [{rules}]}}\n"
    ))
}

/// The same with the rules of a team.
fn team(rules: &str) -> Judge {
    judge(&format!(
        "apiVersion: bulkhead.dev/v1alpha1\nkind: SegmentPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {{ingress: [{rules}]}}\n"
    ))
}

fn judge(policy: &str) -> Judge {
    let source = |text: &str| Source { name: "p.yaml".into(), text: text.into() };
    let loaded = load(&[source(policy)]);
    assert!(!loaded.has_errors(), "{:#?}", loaded.diagnostics);
    let inventory = load_inventory(&[source(INVENTORY)]).expect("a sound inventory");
    let compiler = Compiler::new(&loaded.set, &inventory).expect("a sound set");
    let web = ObjectName { namespace: "shop".into(), name: "web".into() };
    Judge::new(compiler.program(&web, 1).expect("a program")).expect("a valid program")
}

fn ask(judge: &Judge, peer: &str, path: &str, host: Option<&str>, headers: &[(&str, &str)]) -> Effect {
    let Ok(path) = UrlPath::parse(path) else { return Effect::Deny };
    let host = match host.map(HostName::parse_authority) {
        Some(Err(_)) => return Effect::Deny,
        Some(Ok((host, _))) => Some(host),
        None => None,
    };
    let fields: Vec<_> = headers
        .iter()
        .map(|(name, value)| HeaderField { name: name.as_bytes(), value: value.as_bytes() })
        .collect();
    let http = HttpRequest { method: "GET", path: &path, query: None, host: host.as_ref(), headers: &fields };
    let peer = peer.parse().expect("an address");
    judge.decide(Direction::Ingress, peer, L4Protocol::TCP, 80, &Request::Http(http)).enforced.effect
}

fn denied_paths(judge: &Judge, paths: &[&str]) {
    for path in paths {
        assert_eq!(ask(judge, "203.0.113.1", path, Some("a.test"), &[]), Effect::Deny, "{path}");
    }
}

fn denied_headers(judge: &Judge, sent: &[&[(&str, &str)]]) {
    for headers in sent {
        assert_eq!(ask(judge, "203.0.113.1", "/", Some("a.test"), headers), Effect::Deny, "{headers:?}");
    }
}

fn denied_hosts(judge: &Judge, hosts: &[&str]) {
    for host in hosts {
        assert_eq!(ask(judge, "203.0.113.1", "/", Some(host), &[]), Effect::Deny, "{host}");
    }
}

const DENY_ADMIN: &str = r#"{name: no-admin, action: deny, from: [{cidr: 0.0.0.0/0}], ports: [80], http: [{path: /admin}, {path: "/admin/**"}]}"#;

#[test]
fn cve_2019_9901_dot_segments_are_resolved_before_matching() {
    let judge = team(r#"{name: public, ports: [80], http: [{path: "/public/**"}]}"#);
    denied_paths(&judge, &["/public/../admin", "/public/%2e%2e/admin", "/admin"]);
    assert_eq!(ask(&judge, "203.0.113.1", "/public/x", None, &[]), Effect::Allow);
}

#[test]
fn cve_2021_29492_escaped_and_doubled_slashes_do_not_hide_a_path() {
    denied_paths(&admin(DENY_ADMIN), &["//admin", "/%2Fadmin", "/x%5C..%5Cadmin", "/admin", "/%61dmin"]);
    assert_eq!(ask(&admin(DENY_ADMIN), "203.0.113.1", "/other", None, &[]), Effect::Allow);
}

#[test]
fn cve_2021_32779_a_fragment_is_no_part_of_a_path() {
    let judge = admin(
        r#"{name: d, action: deny, from: [{cidr: 0.0.0.0/0}], ports: [80], http: [{path: /user/profile}]}"#,
    );
    denied_paths(&judge, &["/user/profile#section1", "/user/profile"]);
}

#[test]
fn cve_2023_45539_a_fragment_does_not_end_a_path_otherwise() {
    denied_paths(&team(r#"{name: a, ports: [80], http: [{path: "/{name}"}]}"#), &["/admin.html#.png"]);
}

#[test]
fn cve_2026_26205_two_leading_slashes_are_no_authority() {
    let rules = format!(
        "{DENY_ADMIN}, {}",
        r#"{name: people, action: allow, from: [{cidr: 0.0.0.0/0}], ports: [80], http: [{path: /people}]}"#
    );
    denied_paths(&admin(&rules), &["//admin/people"]);
    denied_paths(
        &team(r#"{name: people, ports: [80], http: [{path: /people}]}"#),
        &["//admin/people", "//people"],
    );
}

#[test]
fn cve_2026_33186_a_path_begins_with_a_slash() {
    let judge = admin(
        r#"{name: d, action: deny, from: [{cidr: 0.0.0.0/0}], ports: [80], http: [{path: /admin.Admin/Delete}]}"#,
    );
    denied_paths(&judge, &["admin.Admin/Delete", "/admin.Admin/Delete"]);
}

#[test]
fn cve_2024_10005_a_prefix_is_denied_in_every_spelling() {
    denied_paths(&admin(DENY_ADMIN), &["/./admin", "/admin%2f", "//admin", "/x/../admin", "/admin/"]);
}

#[test]
fn cve_2025_32431_escaped_dot_segments_lead_nowhere_public() {
    let judge = team(r#"{name: public, ports: [80], http: [{path: "/public/**"}]}"#);
    denied_paths(&judge, &["/public/..%2fprivate", "/public/%2e%2e/private"]);
}

#[test]
fn cve_2021_43557_a_blocked_prefix_is_matched_in_normal_form() {
    let judge = admin(
        r#"{name: d, action: deny, from: [{cidr: 0.0.0.0/0}], ports: [80], http: [{path: /internal}]}"#,
    );
    denied_paths(&judge, &["/./internal", "/%69nternal"]);
}

#[test]
fn calico_233fbb38c2_parameters_double_escapes_and_nul_are_refused() {
    let judge = team(r#"{name: public, ports: [80], http: [{path: "/public/**"}]}"#);
    denied_paths(
        &judge,
        &["/public/..;x/admin", "/public/%252e%252e/admin", "/public%00/admin", "/public\\..\\admin"],
    );
}

#[test]
fn go_2026_6218_a_long_path_is_refused_and_the_longest_takes_linear_time() {
    let judge = admin(DENY_ADMIN);
    denied_paths(&judge, &[&"/a/..".repeat(13_108)]);
    assert_eq!(ask(&judge, "203.0.113.1", &"/a/..".repeat(1_600), None, &[]), Effect::Allow);
}

const DENY_ROLE: &str = "{name: d, action: deny, from: [{cidr: 0.0.0.0/0}], ports: [80], http: [{headers: [{name: X-Role, exact: admin}]}]}";

#[test]
fn cve_2026_26308_and_cve_2020_25017_and_cve_2021_32777_each_value_of_a_header_is_tested() {
    let sent: [&[(&str, &str)]; 3] = [
        &[("x-role", "user"), ("x-role", "admin")],
        &[("x-role", "admin"), ("x-role", "user")],
        &[("x-other", "a"), ("X-ROLE", "admin")],
    ];
    denied_headers(&admin(DENY_ROLE), &sent);
    assert_eq!(ask(&admin(DENY_ROLE), "203.0.113.1", "/", None, &[("x-role", "user")]), Effect::Allow);
}

#[test]
fn cve_2024_10006_a_member_of_a_list_matches_a_deny() {
    let sent: [&[(&str, &str)]; 3] =
        [&[("X-ROLE", "admin")], &[("x-role", "admin, x")], &[("x-role", "x"), ("x-role", "y,admin")]];
    denied_headers(&admin(DENY_ROLE), &sent);
}

#[test]
fn ghsa_hrxh_6v49_42gf_a_header_name_in_a_policy_has_no_case() {
    let judge = admin(
        "{name: d, action: deny, from: [{cidr: 0.0.0.0/0}], ports: [80], http: [{headers: [{name: User-Agent, prefix: bad}]}]}",
    );
    denied_headers(&judge, &[&[("user-agent", "bad")], &[("USER-AGENT", "badder")]]);
}

#[test]
fn cve_2023_30851_one_peers_allow_all_does_not_widen_anothers_header_rule() {
    let judge = team(
        "{name: a, from: [{cidr: 203.0.113.1/32}], ports: [80], http: [{headers: [{name: x, exact: \"1\"}]}]}, {name: b, from: [{cidr: \
         203.0.113.2/32}]}",
    );
    assert_eq!(ask(&judge, "203.0.113.1", "/", None, &[]), Effect::Deny);
    assert_eq!(ask(&judge, "203.0.113.1", "/", None, &[("x", "1")]), Effect::Allow);
    assert_eq!(ask(&judge, "203.0.113.2", "/", None, &[]), Effect::Allow);
}

fn deny_host(host: &str) -> Judge {
    admin(&format!(
        "{{name: d, action: deny, from: [{{cidr: 0.0.0.0/0}}], ports: [80], http: [{{hosts: [{host}]}}]}}"
    ))
}

#[test]
fn cve_2021_39155_and_istio_2021_008_and_cve_2022_23632_hosts_have_one_form() {
    denied_hosts(
        &deny_host("secret.com"),
        &["Secret.COM", "secret.com:8000", "secret.com.", "SECRET.com.:80"],
    );
    assert_eq!(ask(&deny_host("secret.com"), "203.0.113.1", "/", Some("other.com"), &[]), Effect::Allow);
}

#[test]
fn cve_2022_24825_brackets_and_dots_do_not_hide_a_host() {
    denied_hosts(&deny_host("evil.com"), &["evil.com.:443", "[[evil.com]]:443", "[evil.com]"]);
}

#[test]
fn a_request_without_host_does_not_slip_past_a_host_that_is_denied() {
    assert_eq!(ask(&deny_host("evil.com"), "203.0.113.1", "/", None, &[]), Effect::Deny);
}

#[test]
fn cve_2025_22870_and_cve_2025_47912_a_zone_or_bad_bracket_is_no_name() {
    let judge = team(r#"{name: a, ports: [80], http: [{hosts: ["*.example.com"]}]}"#);
    denied_hosts(&judge, &["[fe80::1%25.example.com]", "[evil.com]", "[::1]x.example.com", "example.com"]);
    assert_eq!(ask(&judge, "203.0.113.1", "/", Some("a.example.com:80"), &[]), Effect::Allow);
}

#[test]
fn rustsec_2024_0421_a_label_that_encodes_ascii_is_not_that_ascii() {
    denied_hosts(&team("{name: a, ports: [80], http: [{hosts: [example.org]}]}"), &["xn--example-.org"]);
    denied_hosts(&deny_host("example.org"), &["xn--example-.org"]);
}

#[test]
fn cve_2024_24790_a_mapped_address_is_its_ipv4_address() {
    let judge = admin("{name: d, action: deny, from: [{cidr: 10.0.0.0/8}]}");
    assert_eq!(ask(&judge, "::ffff:10.0.0.5", "/", None, &[]), Effect::Deny);
    let block: Cidr = "::ffff:10.0.0.0/104".parse().expect("a block");
    assert_eq!(block.to_string(), "10.0.0.0/8");
}

#[test]
fn cve_2024_42487_the_first_rule_decides_whatever_the_order_of_its_parts() {
    let deny = "{name: d, action: deny, from: [{cidr: 0.0.0.0/0}], ports: [80], http: [{path: /x, headers: [{name: a, present: true}]}]}";
    let allow = r#"{name: a, action: allow, from: [{cidr: 0.0.0.0/0}], ports: [80], http: [{path: "/**"}]}"#;
    let of = |rules: &str| ask(&admin(rules), "203.0.113.1", "/x", None, &[("a", "1")]);
    assert_eq!(of(&format!("{deny}, {allow}")), Effect::Deny);
    assert_eq!(of(&format!("{allow}, {deny}")), Effect::Allow);
}

#[test]
fn cve_2024_52529_a_port_range_of_another_rule_does_not_skip_requests() {
    let judge = team(
        "{name: a, from: [{cidr: 203.0.113.1/32}], ports: [80], http: [{path: /ok}]}, {name: b, from: [{cidr: 203.0.113.2/32}], ports: \
         [\"1-65535\"]}",
    );
    assert_eq!(ask(&judge, "203.0.113.1", "/no", None, &[]), Effect::Deny);
    assert_eq!(ask(&judge, "203.0.113.1", "/ok", None, &[]), Effect::Allow);
    assert_eq!(ask(&judge, "203.0.113.2", "/no", None, &[]), Effect::Allow);
}
