//! Published bypasses of other firewalls, as far as deciding is concerned: each test is named by the advisory.
//!
//! A request that has no canonical form is refused before any rule is asked; here that counts as denied, as it does in
//! the sidecar. What parsers of whole messages have to refuse is tested where they are: [`ELSEWHERE`] lists the advisories
//! of the same classes that concern no decision, and a test holds that none is forgotten.

use bulkhead_facts::{
    Cidr, Direction, Effect, HeaderField, HostName, HttpRequest, L4Protocol, Request, UrlPath,
};
use bulkhead_policies::compile::Compiler;
use bulkhead_policies::decide::Judge;
use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::documents::{load, load_inventory};
use bulkhead_policies::inventory::ObjectName;
use bulkhead_policies::yaml::{self, Node};
use support::{source, suite};

mod support;

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
fn cve_2021_39155_and_istio_security_2021_008_and_cve_2022_23632_hosts_have_one_form() {
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

#[test]
fn cve_2020_8595_neither_query_nor_fragment_is_part_of_a_path() {
    let judge =
        admin("{name: d, action: deny, from: [{cidr: 0.0.0.0/0}], ports: [80], http: [{path: /private}]}");
    denied_paths(&judge, &["/private", "/private#", "/private#x"]);
    let path = UrlPath::parse("/private").expect("a path");
    let http = HttpRequest { method: "GET", path: &path, query: Some("x"), host: None, headers: &[] };
    let peer = "203.0.113.1".parse().expect("an address");
    let pair = judge.decide(Direction::Ingress, peer, L4Protocol::TCP, 80, &Request::Http(http));
    assert_eq!(pair.enforced.effect, Effect::Deny);
}

#[test]
fn cve_2023_47106_a_fragment_hides_no_dot_segments() {
    denied_paths(&team(r#"{name: a, ports: [80], http: [{path: "/**"}]}"#), &["/x#/../admin"]);
}

#[test]
fn cve_2026_40912_an_escaped_slash_is_refused_before_anybody_could_rewrite_it() {
    denied_paths(
        &team(r#"{name: a, ports: [80], http: [{path: "/pfx/**"}]}"#),
        &["/pfx/..%2fadmin", "/pfx/%2e%2e%2fadmin"],
    );
}

#[test]
fn cve_2026_27587_an_escaped_letter_is_that_letter_in_its_case() {
    let judge = admin(
        "{name: d, action: deny, from: [{cidr: 0.0.0.0/0}], ports: [80], http: [{path: /Admin}, {path: '/ADMIN/**'}]}",
    );
    denied_paths(&judge, &["/%41dmin", "/Admin", "/ADMIN%2fx", "/ADMIN/x"]);
    assert_eq!(
        ask(&judge, "203.0.113.1", "/admin", None, &[]),
        Effect::Allow,
        "paths are compared with their case"
    );
}

#[test]
fn cve_2026_27590_letters_that_change_their_length_with_their_case_change_nothing() {
    let judge = team(r#"{name: a, ports: [80], http: [{path: "/x.php"}]}"#);
    denied_paths(&judge, &["/x.PHP", "/%C4%B0x.php", "/x.%E2%84%AAhp", "/\u{130}.php", "/x.php\u{212a}"]);
    assert_eq!(ask(&judge, "203.0.113.1", "/x.php", None, &[]), Effect::Allow);
}

#[test]
fn cve_2013_4547_neither_space_nor_nul_stands_in_a_path() {
    denied_paths(
        &team(r#"{name: a, ports: [80], http: [{path: "/**"}]}"#),
        &["/foo /../protected/file", "/foo\0", "/foo \0.php"],
    );
}

#[test]
fn cve_2019_18802_white_space_around_a_value_hides_it_from_no_deny() {
    denied_headers(&admin(DENY_ROLE), &[&[("x-role", "admin \t")], &[("x-role", "\tadmin")]]);
}

#[test]
fn cve_2023_27488_a_value_that_is_no_utf_8_is_compared_as_bytes() {
    let fields = [HeaderField { name: b"x-role", value: b"admin\x80\xff" }];
    let path = UrlPath::parse("/").expect("a path");
    let http = HttpRequest { method: "GET", path: &path, query: None, host: None, headers: &fields };
    let peer = "203.0.113.1".parse().expect("an address");
    let effect = |judge: &Judge| {
        judge.decide(Direction::Ingress, peer, L4Protocol::TCP, 80, &Request::Http(http)).enforced.effect
    };
    let prefix = DENY_ROLE.replace("exact", "prefix");
    assert_eq!(effect(&admin(&prefix)), Effect::Deny);
    assert_eq!(
        effect(&team("{name: a, ports: [80], http: [{headers: [{name: x-role, exact: admin}]}]}")),
        Effect::Deny
    );
}

#[test]
fn grpc_go_9332_a_rule_for_a_header_fires_whatever_its_case() {
    denied_headers(
        &admin(&DENY_ROLE.replace("X-Role", "USER-agent").replace("admin", "bad")),
        &[&[("user-agent", "bad")]],
    );
}

#[test]
fn grpc_go_9258_what_is_wrong_deep_inside_a_rule_is_an_error_of_the_whole() {
    for wrong in [
        "http: [{headers: [{name: x, exact: a, regex: b}]}]",
        "http: [{hosts: [a.test], not: [{hosts: [b.test]}]}]",
    ] {
        refused(&format!("{{name: d, action: deny, from: [{{cidr: 0.0.0.0/0}}], ports: [80], {wrong}}}"));
    }
}

/// These rules of the admin tier are refused.
fn refused(rules: &str) {
    let text = format!(
        "apiVersion: bulkhead.dev/v1alpha1\nkind: ClusterSegmentPolicy\nmetadata: {{name: p}}\nspec: {{tier: admin, priority: 1, \
         subjects: {{namespaces: {{}}}}, ingress: [{rules}]}}\n"
    );
    assert!(load(&[Source { name: "p.yaml".into(), text }]).has_errors(), "{rules}");
}

#[test]
fn cve_2026_33433_a_name_that_is_the_same_to_some_servers_is_neither_missed_nor_trusted() {
    denied_headers(
        &admin(DENY_ROLE),
        &[&[("X_Role", "admin")], &[("x-Role", "admin")], &[("x_ROLE", "admin")]],
    );
    let judge = team("{name: a, ports: [80], http: [{headers: [{name: x-auth-user, exact: ann}]}]}");
    denied_headers(&judge, &[&[("X_Auth_User", "ann")], &[("x-auth-user", "ann"), ("X_Auth_User", "root")]]);
}

#[test]
fn cve_2026_27588_hosts_have_no_case_however_many_rules_there_are() {
    for count in [1, 100, 101, 2_000] {
        let rules: Vec<String> = (0..count)
            .map(|n| format!("{{name: d{n}, action: deny, from: [{{cidr: 0.0.0.0/0}}], ports: [80], http: [{{hosts: [secret{n}.com]}}]}}"))
            .collect();
        let judge = admin(&rules.join(", "));
        let last = count - 1;
        denied_hosts(&judge, &["SECRET0.com", &format!("Secret{last}.COM"), &format!("secret{last}.com.")]);
        assert_eq!(ask(&judge, "203.0.113.1", "/", Some("other.com"), &[]), Effect::Allow);
    }
}

#[test]
fn cve_2026_39350_and_cve_2020_16844_a_deny_of_an_identity_that_nobody_proves_is_an_error() {
    for peer in ["{serviceAccounts: [a.b]}", "{identities: ['spiffe://td1/ns/ns1/sa/*']}"] {
        refused(&format!("{{name: d, action: deny, from: [{peer}]}}"));
    }
    let judge = team("{name: a, from: [{serviceAccounts: [a.b]}], ports: [80]}");
    assert_eq!(ask(&judge, "203.0.113.1", "/", None, &[]), Effect::Deny, "and an allow lets nobody in");
}

#[test]
fn cve_2024_45806_and_cve_2023_27487_and_cve_2022_24112_and_cve_2026_39858_no_header_says_who_is_there() {
    let judge = team("{name: a, from: [{cidr: 10.0.0.0/8}], ports: [80], http: [{path: /ok}]}");
    let forged = [
        ("x-forwarded-for", "10.0.0.5"),
        ("x-real-ip", "127.0.0.1"),
        ("x-envoy-original-path", "/ok"),
        ("x-forwarded-prefix", "/ok"),
        ("forwarded", "for=10.0.0.5"),
    ];
    assert_eq!(ask(&judge, "203.0.113.1", "/ok", None, &forged), Effect::Deny);
    assert_eq!(ask(&judge, "10.0.0.5", "/admin", None, &forged), Effect::Deny);
    assert_eq!(ask(&judge, "10.0.0.5", "/ok", None, &[]), Effect::Allow);
}

#[test]
fn cve_2024_39321_and_cve_2026_40460_a_rule_for_requests_opens_no_port_of_udp() {
    let judge = team(r#"{name: a, http: [{path: "/**"}]}"#);
    let peer = "203.0.113.1".parse().expect("an address");
    let pair = judge.decide(Direction::Ingress, peer, L4Protocol::UDP, 443, &Request::Opaque);
    assert_eq!(pair.enforced.effect, Effect::Deny);
}

/// Advisories of the classes that are held here which concern no decision, each with what they concern instead.
const ELSEWHERE: [(&str, &str); 24] = [
    ("CVE-2019-9900", "a NUL in a value: the parsers refuse it"),
    ("CVE-2023-27493", "line ends in a value of HTTP/2: the parser refuses them"),
    ("CVE-2024-45410", "headers that are removed hop by hop: none is added, removed or rewritten"),
    ("CVE-2026-30851", "headers of an authorizer: there is none, and no header is trusted"),
    ("CVE-2020-8843", "headers of the mesh: none is trusted"),
    ("CVE-2023-35944", "the case of a scheme: the parser refuses it"),
    ("CVE-2023-25725", "an empty name of a header: the parser refuses it"),
    ("CVE-2022-21679", "programs that an older sidecar misreads: an unknown value refuses the message"),
    ("CVE-2026-29777", "text of rules in generated configuration: rules are values, no text is put together"),
    ("CVE-2024-23324", "values of the PROXY protocol: the reader of its header refuses them"),
    ("CVE-2020-35470", "the address in the PROXY protocol: nobody believes it"),
    ("CVE-2026-47692", "values of the PROXY protocol: the reader of its header refuses them"),
    ("CVE-2020-8558", "packets to 127.0.0.0/8 from outside: the kernel tables drop them"),
    ("CVE-2021-28682", "a deadline that overflows: not read"),
    ("GHSA-m425-mq94-257g", "streams that are reset at once: limited where HTTP/2 is read"),
    ("CVE-2024-47609", "errors of accept: the listeners"),
    ("GHSA-xr7q-jx4m-x55m", "secrets in logs: no header is logged"),
    ("CVE-2023-32732", "values of binary headers: not decoded"),
    ("CVE-2022-41721", "an upgrade to h2c with a body: the parser refuses it"),
    ("h2csmuggler (BishopFox 2020)", "an upgrade to h2c: the session"),
    ("CVE-2025-64763", "bytes behind CONNECT: the session holds them until the answer"),
    ("CVE-2021-43826", "memory of a tunnel: there is no unsafe code in sessions"),
    ("ISTIO HBONE / CONNECT", "the authority of CONNECT: the session"),
    ("CVE-2026-33726", "ways around the datapath: the trial of evasions"),
];

#[test]
fn every_advisory_of_these_classes_is_named_by_a_test_or_concerns_no_decision() {
    let Some(folder) = suite("advisories") else { return };
    let names: Vec<&str> = include_str!("advisories.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("fn ")?.split_once('(').map(|(name, _)| name))
        .collect();
    let rows = source(&folder.join("advisories.jsonl"));
    let rows: Vec<Node> = rows
        .text
        .lines()
        .map(|line| Source { name: "advisories.jsonl".into(), text: line.into() })
        .flat_map(|line| yaml::parse(&line).expect("an advisory"))
        .collect();
    let text =
        |row: &Node, field: &str| row.child(field).and_then(Node::as_str).unwrap_or_default().to_owned();
    let mut listed: Vec<&str> = Vec::new();
    let mut forgotten = Vec::new();
    let classes = ["01", "02", "03", "04", "05", "07"];
    for row in rows.iter().filter(|row| classes.iter().any(|class| text(row, "class").starts_with(class))) {
        let id = text(row, "id");
        let elsewhere = ELSEWHERE.iter().find(|(own, _)| id.starts_with(own));
        listed.extend(elsewhere.map(|(own, _)| *own));
        let spelled = id.split(['/', ';', ',']).map(as_name).filter(|name| !name.is_empty());
        let is_named = spelled.into_iter().any(|id| names.iter().any(|name| name.contains(&id)));
        if elsewhere.is_none() && !is_named {
            forgotten.push(id);
        }
    }
    assert!(forgotten.is_empty(), "advisories without a test: {forgotten:#?}");
    let strange = ELSEWHERE.iter().filter(|(own, _)| !listed.contains(own));
    assert_eq!(strange.count(), 0, "listed, but not among the advisories: {listed:?}");
}

/// An advisory's id as the names of tests spell it: what stands in brackets is left out.
fn as_name(id: &str) -> String {
    let id = id.split('(').next().unwrap_or_default().trim().to_lowercase();
    let words = id.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_")
}
