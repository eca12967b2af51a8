//! Published bypasses that concern the inspector, read at run time: each row is named by a test, held by one of another name, or
//! stands here with the reason why it has none.

use bulkhead_tests::{root, skip, sources};
use serde_json::Value;
use std::collections::BTreeSet;

/// Classes of rows that concern the inspector.
const CLASSES: [&str; 11] = ["01", "02", "03", "05", "06", "07", "08", "09", "20", "30", "31"];

/// Rows that are held by a test of another name.
const HELD: &[(&str, &str)] = &[
    ("calico 233fbb38c2", "calico_233fbb38c2"),
    ("ISTIO HBONE", "connect_names_a_host_and_a_port_and_nothing_else"),
    ("cilium #31803", "cilium_31803_another_name_on_an_admitted_address_is_refused_where_it_shows"),
    ("cilium CNAME #20191", "cilium_20191"),
    ("DoH/DoT/ECH", "an_encrypted_hello_is_a_fact_and_its_outer_name_is_not_the_one_that_is_meant"),
    ("CVE-2023-27493", "fields_are_lower_case_clean_and_belong_to_no_connection"),
    ("CVE-2023-35944", "method_scheme_and_path_are_exact"),
    ("ISTIO-SECURITY-2021-008", "istio_security_2021_008"),
    ("GHSA-m425-mq94-257g", "a_flood_ends_with_a_word_and_the_origin_sees_no_more_of_it"),
    ("HAProxy d12edebe4", "a_body_has_the_length_that_was_told"),
    ("CVE-2026-42926", "fields_are_lower_case_clean_and_belong_to_no_connection"),
    ("HTTP Garden list", "http_garden_bare_cr_and_folding"),
    ("h2csmuggler", "cve_2022_41721_h2csmuggler"),
    ("CVE-2026-48491", "bytes_of_another_protocol_end_a_connection_that_is_judged"),
    ("cilium zombie mappings", "a_time_that_is_over_admits_nothing_new_and_keeps_what_is_open"),
    ("cilium TTL floor", "addresses_of_the_name_count_with_their_time"),
    ("CVE-2026-25949", "a_question_for_encryption_and_then_silence_ends_on_time"),
    ("Redis cross-protocol", "cve_2016_10517"),
    ("Kafka (Cilium", "one_other_topic_denies_the_whole_request_and_what_was_sent_before_is_answered"),
    ("MadeYouReset", "each_budget_ends_and_comes_back_with_the_next_interval"),
    ("CVE-2019-9511", "each_budget_ends_and_comes_back_with_the_next_interval"),
    ("RUSTSEC-2026-0258", "each_budget_ends_and_comes_back_with_the_next_interval"),
    ("RUSTSEC-2023-0034", "more_streams_than_the_limit_are_refused_until_one_ends"),
    ("CVE-2024-45506", "large_bodies_pass_unchanged_in_both_directions"),
    ("CVE-2026-33814", "settings_outside_their_range_end_the_connection"),
    ("slowloris", "slow_clients_of_every_kind_leave_the_origin_available"),
    ("CVE-2026-22045", "slow_clients_of_every_kind_leave_the_origin_available"),
    ("CVE-2020-8659", "memory_of_an_idle_connection_is_small"),
    ("CVE-2020-8661", "malformed_requests_are_refused_before_any_rule"),
    ("CVE-2025-43915", "hosts_and_paths_beyond_the_limit_of_their_edge_become_any"),
    ("learning table growth", "a_flood_of_allowed_flows_and_requests_leaves_room_for_denials"),
    ("CVE-2019-15226", "heads_have_limits"),
];

/// Rows without a test, and why.
const WITHOUT: &[(&str, &str)] = &[
    (
        "grpc-go #9332",
        "names of header fields in rules are read into one case: the reader of policies is tested for it",
    ),
    ("grpc-go #9258", "rules do not nest"),
    ("CVE-2026-33433", "no header field carries an identity here"),
    ("CVE-2026-30851", "there is no authorizer whose fields could be copied"),
    ("CVE-2020-8843", "no header field carries an attribute of a peer"),
    ("CVE-2022-21679", "programs carry their version, and a sidecar refuses one that it does not know"),
    ("CVE-2026-39350", "there are no regular expressions"),
    ("CVE-2020-16844", "there are no principals of connections without mutual TLS"),
    ("CVE-2026-29777", "no configuration is written as text from rules"),
    ("CVE-2024-47609", "accept errors of the sidecar's listeners are its own tests, not the inspector's"),
    ("CVE-2021-28682", "no time of a call is read"),
    ("GHSA-xr7q-jx4m-x55m", "no header field is logged"),
    ("CVE-2023-32732", "no value of a header field is decoded"),
    ("CVE-2026-48743", "HTTP/3 is not read"),
    ("CVE-2026-71324", "each connection of a client has its own to the server: nothing is shared"),
    ("CVE-2021-43826", "tunnels are bytes in two buffers of safe code"),
    ("CVE-2026-33726", "a matter of the kernel tier"),
    ("CVE-2025-23419", "nothing is decrypted: a resumed session begins with a hello like any other"),
    ("CVE-2022-21654", "nothing is decrypted"),
    ("CVE-2025-68121", "nothing is decrypted"),
    ("CVE-2026-27586", "a matter of the controller's own port"),
    (
        "CVE-2026-54762",
        "a rule with a missing reference matches nobody: the reader of policies is tested for it",
    ),
    ("CVE-2020-15104", "a matter of the certificates between sidecar and controller"),
    ("CVE-2022-21656", "a matter of the certificates between sidecar and controller"),
    ("CVE-2025-66220", "a matter of the certificates between sidecar and controller"),
    ("RUSTSEC-2026-0098", "a matter of the certificates between sidecar and controller"),
    ("CVE-2022-40716", "a matter of enrolment"),
    ("CVE-2026-31837", "there are no keys from elsewhere"),
    ("ISTIO-SECURITY-2021-004", "rules by identity match nobody before there is mutual TLS between sidecars"),
    ("CVE-2026-32283", "nothing is decrypted"),
    ("CVE-2023-50387", "signatures of the name system are not validated here"),
    ("CVE-2020-8663", "the limit of connections is the sidecar's own test, not the inspector's"),
    ("CVE-2024-34364", "no body is kept"),
    ("CVE-2022-29225", "nothing is decompressed"),
    ("CVE-2019-14993", "there are no regular expressions"),
    ("CVE-2026-48042", "a matter of the readers of documents, whose depth is limited"),
    ("RUSTSEC-2023-0052", "a matter of the certificates between sidecar and controller"),
    ("conntrack table exhaustion", "a matter of the kernel tier"),
    ("CVE-2024-53270", "there is no answer to overload but a reset"),
];

#[test]
fn every_published_bypass_that_concerns_the_inspector_has_a_test_or_a_reason() {
    let names = names();
    for (row, test) in HELD {
        assert!(names.contains(*test), "`{row}` is said to be held by `{test}`, which is no test");
    }
    let suites = std::env::var("BULKHEAD_SUITES").unwrap_or_else(|_| "../shared/suites".to_owned());
    let file = root().join(suites).join("advisories/advisories.jsonl");
    let Ok(text) = std::fs::read_to_string(&file) else {
        return skip(&format!("no `{}`; set BULKHEAD_SUITES", file.display()));
    };
    let mut open = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let row: Value = serde_json::from_str(line).expect("a row");
        let (class, id) = (row["class"].as_str().unwrap_or_default(), row["id"].as_str().unwrap_or_default());
        if !CLASSES.iter().any(|number| class.starts_with(number)) {
            continue;
        }
        let by_name =
            identifiers(id).iter().any(|part| names.iter().any(|name| name.contains(part.as_str())));
        let told = HELD.iter().chain(WITHOUT).any(|(part, _)| id.contains(part));
        if !by_name && !told {
            open.push(format!("{class}: {id}"));
        }
    }
    assert!(open.is_empty(), "rows with neither a test nor a reason:\n{}", open.join("\n"));
}

/// The identifiers in a row, in the form that names of tests have: `CVE-2020-8660` is `cve_2020_8660`.
fn identifiers(id: &str) -> Vec<String> {
    let words = id.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let known = ["CVE-", "RUSTSEC-", "GO-", "GHSA-", "ISTIO-"];
    let words = words.filter(|word| known.iter().any(|front| word.starts_with(front)));
    words.map(|word| word.to_ascii_lowercase().replace('-', "_")).collect()
}

/// Names of all functions and of what macros make into tests.
fn names() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in sources("rs") {
        let text = std::fs::read_to_string(&file).expect("a source file");
        for line in text.lines().map(str::trim_start) {
            let name = line
                .split_once("fn ")
                .map(|(_, rest)| rest)
                .or_else(|| line.split_once(" =>").map(|(name, _)| name).filter(|name| !name.contains(' ')));
            let word = name.unwrap_or_default();
            let end = word.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(word.len());
            found.insert(word[..end].to_owned());
        }
    }
    found
}
