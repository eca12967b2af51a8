//! `bulkhead policy` from outside: what it prints, where, and with which exit code.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../policies/examples")
}

fn bulkhead(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
    command.arg("policy").args(arguments).current_dir(examples()).output().expect("the program runs")
}

fn with_input(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
    command.arg("policy").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("an exit code")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", out(output)))
}

const WRONG: &str = "apiVersion: bulkhead.dev/v1alpha1\nkind: SegmentPolicy\nmetadata: {name: a, namespace: x}\nspec: {ingres: []}\n";
const DOUBTFUL: &str =
    "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec: {podSelector: {}}\n";

#[test]
fn check_accepts_the_examples() {
    let found = bulkhead(&["check", ".", "--inventory", "shop/inventory.yaml"]);
    assert_eq!(code(&found), 0, "{}", err(&found));
    let found = bulkhead(&["check", "shop/policies.yaml", "--inventory", "shop/inventory.yaml", "--strict"]);
    assert_eq!((code(&found), err(&found)), (0, String::new()));
    assert_eq!(out(&found), "4 policies, 1 collections: 0 errors, 0 warnings\n");
}

#[test]
fn a_wrong_document_exits_with_2_and_says_where_and_what() {
    let found = with_input(&["check", "-"], WRONG);
    assert_eq!(code(&found), 2);
    assert!(err(&found).contains("--> (standard input):4:8"), "{}", err(&found));
    assert!(err(&found).contains("did you mean `ingress`?"), "{}", err(&found));
}

#[test]
fn warnings_fail_only_when_asked_to() {
    assert_eq!(code(&with_input(&["check", "-"], DOUBTFUL)), 0);
    assert_eq!(code(&with_input(&["check", "-", "--strict"], DOUBTFUL)), 1);
}

#[test]
fn check_speaks_to_machines() {
    let found = json(&with_input(&["check", "-", "--format", "json"], WRONG));
    assert_eq!((&found[0]["line"], &found[0]["code"]), (&4.into(), &"unknown-field".into()));
    let found = json(&with_input(&["check", "-", "--format", "sarif"], WRONG));
    assert_eq!(found["runs"][0]["results"][0]["ruleId"], "unknown-field");
    let found = with_input(&["check", "-", "--format", "github"], WRONG);
    assert!(out(&found).starts_with("::error file=(standard input),line=4,col=8,"), "{}", out(&found));
}

#[test]
fn what_cannot_be_read_exits_with_2_and_one_message() {
    for (arguments, expected) in [
        (&["check", "nowhere.yaml"][..], "cannot read `nowhere.yaml`"),
        (&["test", "nowhere"][..], "cannot read `nowhere`"),
        (&["test", "shop/policies.yaml"][..], "no cases found"),
        (&["matrix", "shop/policies.yaml", "--probe", "TCP/80"][..], "the inventory has no pod"),
        (&["matrix", "shop", "--probe", "TCP/http"][..], "`TCP/http` is no port"),
        (&["explain", "shop/a", "shop/payments", "80", "--policies", "shop"][..], "is called `shop/a`"),
        (&["explain", "shop/payments", "shop/checkout", "0", "--policies", "shop"][..], "`0` is no port"),
        (&["check", "shop", "--format", "junit"][..], "[possible values: text, json, sarif, github]"),
    ] {
        let found = bulkhead(arguments);
        assert_eq!(code(&found), 2, "{arguments:?}");
        assert!(err(&found).contains(expected), "{arguments:?}: {}", err(&found));
        assert_eq!(out(&found), "", "{arguments:?}");
    }
}

#[test]
fn test_runs_every_case_of_every_folder() {
    let found = bulkhead(&["test", ".", "--format", "json"]);
    assert_eq!(code(&found), 0, "{}", out(&found));
    let found = json(&found);
    assert_eq!(found["differ"], 0);
    assert!(found["total"].as_u64().expect("a number") >= 40);
}

#[test]
fn a_case_that_differs_exits_with_1_and_is_explained() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("differs");
    std::fs::create_dir_all(&folder).expect("a folder");
    for file in ["policies.yaml", "inventory.yaml"] {
        std::fs::copy(examples().join("shop").join(file), folder.join(file)).expect("a copy");
    }
    let case = "apiVersion: bulkhead.dev/v1alpha1\nkind: PolicyTest\nmetadata: {name: wrong}\nspec: {allow: [{from: shop/checkout, to: shop/payments-db, port: 5432}]}\n";
    std::fs::write(folder.join("cases.yaml"), case).expect("a file");
    let folder = folder.display().to_string();
    let found = bulkhead(&["test", &folder]);
    assert_eq!(code(&found), 1);
    assert!(err(&found).contains("must be allow, is deny"), "{}", err(&found));
    assert!(out(&found).ends_with("1 cases, 2 flows: 1 differ\n"), "{}", out(&found));
    let found = bulkhead(&["test", &folder, "--format", "junit"]);
    assert!(out(&found).contains("<testsuites tests=\"1\" failures=\"1\">"), "{}", out(&found));
}

#[test]
fn explain_answers_with_its_exit_code() {
    let ask = |target: &str| {
        bulkhead(&[
            "explain",
            "shop/checkout",
            "shop/payments",
            "8080",
            "POST",
            target,
            "--policies",
            "shop",
            "--format",
            "json",
        ])
    };
    let allowed = ask("/v1/charges");
    assert_eq!(code(&allowed), 0, "{}", err(&allowed));
    assert_eq!(json(&allowed)[0]["sides"][1]["enforced"]["rule"], "checkout-charges");
    let denied = ask("/admin");
    assert_eq!(code(&denied), 1);
    let change = json(&denied)[0]["sides"][1]["change"].to_string();
    assert!(change.contains("add `{methods: [POST], path: /admin}` to `http`"), "{change}");
}

#[test]
fn matrix_has_every_ordered_pair_for_every_probe() {
    let found = bulkhead(&[
        "matrix",
        "--inventory",
        "kubernetes/inventory.yaml",
        "--probe",
        "TCP/8080",
        "--probe",
        "UDP/53",
        "--format",
        "json",
        "kubernetes/policies.yaml",
    ]);
    assert_eq!(code(&found), 0, "{}", err(&found));
    let table = json(&found);
    let rows = table.as_array().expect("an array");
    assert_eq!(rows.len(), 5 * 5 * 2);
    let verdict = |from: &str, to: &str, protocol: &str| {
        let hit =
            |row: &&serde_json::Value| row["from"] == from && row["to"] == to && row["protocol"] == protocol;
        let row = rows.iter().find(hit).expect("a row");
        (row["verdict"].as_str().expect("a verdict").to_owned(), row["rule"].clone())
    };
    let allowed = verdict("edge/gateway", "prod/web", "TCP");
    assert_eq!(allowed, ("allow".to_owned(), "NetworkPolicy/prod/web/ingress[0]".into()));
    assert_eq!(verdict("edge/gateway", "prod/web", "UDP"), ("deny".to_owned(), serde_json::Value::Null));
    let quarantined = verdict("edge/suspect", "edge/gateway", "UDP");
    assert_eq!(quarantined, ("deny".to_owned(), "ClusterNetworkPolicy/quarantine/nowhere".into()));
}

#[test]
fn fmt_writes_one_layout_and_check_only_looks() {
    let found = with_input(&["fmt", "-"], "kind:  A  # comment\nspec: { a : 1 }\n");
    assert_eq!((code(&found), out(&found)), (0, "kind: A  # comment\nspec: {a: 1}\n".to_owned()));
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("layout.yaml");
    std::fs::write(&file, "a:   1\n").expect("a file");
    let name = file.display().to_string();
    let found = bulkhead(&["fmt", "--check", &name]);
    assert_eq!((code(&found), out(&found)), (1, format!("{name}\n")));
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), "a:   1\n");
    assert_eq!(code(&bulkhead(&["fmt", &name])), 0);
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), "a: 1\n");
    assert_eq!(code(&bulkhead(&["fmt", "--check", &name, "."])), 0);
    assert_eq!(code(&with_input(&["fmt", "-"], "a: b: c\n")), 2);
}

#[test]
fn schema_prints_json_and_definitions() {
    assert_eq!(json(&bulkhead(&["schema", "Collection"]))["properties"]["kind"]["const"], "Collection");
    assert_eq!(json(&bulkhead(&["schema"]))["then"]["properties"]["kind"]["enum"][0], "SegmentPolicy");
    let crd = bulkhead(&["schema", "SegmentPolicy", "--crd"]);
    assert!(out(&crd).contains("name: \"segmentpolicies.bulkhead.dev\""), "{}", out(&crd));
    for arguments in [&["schema", "Pod"][..], &["schema", "PolicyTest", "--crd"], &["schema", "--crd"]] {
        assert_eq!(code(&bulkhead(arguments)), 2, "{arguments:?}");
    }
}

/// The policies of the shop with something replaced, in a file of its own.
fn shop_with(name: &str, what: &str, by: &str) -> String {
    let text = std::fs::read_to_string(examples().join("shop/policies.yaml")).expect("the shop");
    assert!(text.contains(what), "{what:?} is not in the shop");
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, text.replace(what, by)).expect("a file");
    file.display().to_string()
}

const OLD: [&str; 5] =
    ["diff", "shop/policies.yaml", "--inventory", "shop/inventory.yaml", "--fail-on=widen"];

#[test]
fn diff_tells_what_changes_in_verdicts_and_fails_if_access_widens() {
    let renamed = shop_with("renamed.yaml", "name: checkout-charges", "name: charges");
    let found = bulkhead(&[&OLD[..], &[&renamed]].concat());
    assert_eq!((code(&found), out(&found)), (0, "0 widened, 0 narrowed, 0 reset\n".to_owned()));

    let wider = shop_with("wider.yaml", "path: /v1/charges}", "path: \"/v1/{what}\"}");
    let found = bulkhead(&[&OLD[..], &[&wider]].concat());
    assert_eq!(code(&found), 1);
    assert!(out(&found).contains("widened   shop/checkout -> shop/payments tcp/8080"), "{}", out(&found));
    assert!(out(&found).contains("POST /v1/{any}"), "{}", out(&found));
    assert!(out(&found).contains("-> service/shop/payments tcp/80 "), "{}", out(&found));

    let narrower = shop_with("narrower.yaml", "ports: [9090]", "ports: [9091]");
    let found = json(&bulkhead(&[&OLD[..4], &[&narrower, "--format=json"]].concat()));
    assert_eq!(found["changes"].as_array().map(Vec::len), Some(2));
    assert_eq!((&found["widens"], &found["changes"][0]["kind"]), (&true.into(), &"widened".into()));
    assert_eq!(found["changes"][1]["example"]["request"]["http"]["path"], "/metrics");
}

#[test]
fn diff_needs_an_inventory_and_sound_policies() {
    let found = bulkhead(&["diff", "shop/policies.yaml", "shop/policies.yaml"]);
    assert_eq!(code(&found), 2);
    assert!(err(&found).contains("give `--inventory FILE`"), "{}", err(&found));
    assert_eq!(code(&bulkhead(&[&OLD[..], &["nowhere.yaml"]].concat())), 2);
}

#[test]
fn diff_reads_the_inventory_once_so_that_it_may_come_by_standard_input() {
    let inventory = std::fs::read_to_string(examples().join("shop/inventory.yaml")).expect("an example");
    let renamed = shop_with("renamed-again.yaml", "name: checkout-charges", "name: charges");
    let shop = examples().join("shop/policies.yaml").display().to_string();
    let found = with_input(&["diff", &shop, &renamed, "--inventory", "-"], &inventory);
    assert_eq!(code(&found), 0, "{}", err(&found));
    assert_eq!(out(&found), "0 widened, 0 narrowed, 0 reset\n");
}

#[test]
fn prove_holds_on_the_shop_and_contradicts_a_weaker_one_with_a_flow() {
    let found = bulkhead(&["prove", "shop"]);
    assert_eq!(code(&found), 0, "{}", err(&found));
    assert!(out(&found).ends_with("5 assertions: 0 do not hold\n"), "{}", out(&found));

    let weaker = shop_with(
        "weaker.yaml",
        "from: [{workloads: {app: payments}}]",
        "from: [{namespaces: {}}, {cidr: 198.51.100.0/24}]",
    );
    let arguments = ["prove", &weaker, "shop/proofs.yaml", "--inventory", "shop/inventory.yaml"];
    let found = bulkhead(&arguments);
    assert_eq!(code(&found), 1);
    assert!(
        err(&found).contains("does not hold: monitoring/prometheus-0 (10.1.0.40) to shop/payments-db-0"),
        "{}",
        err(&found)
    );
    let found = json(&bulkhead(&[&arguments[..], &["--format", "json"]].concat()));
    assert_eq!((&found[0]["holds"], &found[1]["holds"]), (&false.into(), &true.into()));
    assert_eq!(found[0]["counter_example"]["rules"][0], "SegmentPolicy/shop/payments-db/payments");
}

#[test]
fn prove_refuses_wrong_assertions_and_says_where() {
    let wrong = "apiVersion: bulkhead.dev/v1alpha1\nkind: PolicyProof\nmetadata: {name: a}\nspec: {never: [{too: shop/payments}]}\n";
    let shop = examples().join("shop").display().to_string();
    let found = with_input(&["prove", &shop, "-"], wrong);
    assert_eq!((code(&found), out(&found)), (2, String::new()));
    assert!(err(&found).contains("--> (standard input):4:"), "{}", err(&found));
    let unknown = wrong.replace("too: shop/payments", "to: shop/paymets");
    let found = with_input(&["prove", &shop, "-"], &unknown);
    assert_eq!(code(&found), 2);
    assert!(err(&found).contains("did you mean `shop/payments`"), "{}", err(&found));
    assert_eq!(code(&bulkhead(&["prove", "shop/policies.yaml"])), 2);
}

#[test]
fn wrong_assertions_are_found_without_proving_them() {
    let wrong = "apiVersion: bulkhead.dev/v1alpha1\nkind: PolicyProof\nmetadata: {name: a}\nspec: {never: [{too: shop/payments}]}\n";
    let found = with_input(&["check", "-"], wrong);
    assert_eq!(code(&found), 2);
    assert!(err(&found).contains("an assertion has no field `too`"), "{}", err(&found));
}

#[test]
fn everything_that_is_proven_may_come_by_standard_input() {
    let all = ["inventory.yaml", "policies.yaml", "proofs.yaml"]
        .map(|name| std::fs::read_to_string(examples().join("shop").join(name)).expect("an example"));
    let found = with_input(&["prove", "-"], &all.join("\n---\n"));
    assert_eq!(code(&found), 0, "{}{}", out(&found), err(&found));
    assert!(out(&found).ends_with(" assertions: 0 do not hold\n"), "{}", out(&found));
}

#[test]
fn prove_tells_how_far_a_compromised_workload_reaches() {
    let found = json(&bulkhead(&["prove", "shop", "--reach", "shop/checkout", "--format", "json"]));
    let stations: Vec<_> = found
        .as_array()
        .expect("a list")
        .iter()
        .map(|reached| (reached["station"].clone(), reached["steps"].clone()))
        .collect();
    assert_eq!(
        stations,
        [
            ("shop/payments".into(), 1.into()),
            ("shop/payments-db".into(), 2.into()),
            ("outside".into(), 2.into())
        ]
    );
    assert_eq!(code(&bulkhead(&["prove", "shop", "--reach", "service/shop/payments"])), 2);
}

const PROTOCOLS: [&str; 2] = ["--policies", "protocols"];

#[test]
fn explain_asks_in_the_words_of_every_protocol() {
    for (words, expected) in [
        (&["data/orders", "service/data/ledger", "9000", "grpc", "ledger.v1.Ledger/Append"][..], 0),
        (&["data/orders", "service/data/ledger", "9000", "grpc", "ledger.v1.Ledger/Purge"], 1),
        (&["data/orders", "data/cache", "6379", "redis", "GET", "key=orders:1"], 0),
        (&["data/orders", "data/cache", "6379", "redis", "command=GET", "key=carts:1"], 1),
        (
            &["data/orders", "data/store", "5432", "postgres", "orders", "database=shop", "statement=insert"],
            0,
        ),
        (&["data/orders", "data/broker", "9092", "kafka", "api=fetch", "topic=orders.paid"], 1),
        (&["data/orders", "fqdn/api.cardnet.example", "443", "tls", "api.cardnet.example", "alpn=h2"], 0),
        (&["data/orders", "kube-system/dns", "udp/53", "dns", "evil.example", "type=TXT"], 1),
        (&["data/orders", "data/cache", "6379", "redis"], 2),
        (&["data/orders", "data/cache", "6379", "redis", "GET", "kye=a"], 2),
        (&["data/orders", "data/cache", "udp/6379", "redis", "GET"], 2),
        (&["data/orders", "data/cache", "6379", "redis", "GET", "--host", "a.test"], 2),
    ] {
        let found = bulkhead(&[&["explain"], words, &PROTOCOLS].concat());
        assert_eq!(code(&found), expected, "{words:?}: {}{}", out(&found), err(&found));
    }
    let words = ["data/orders", "data/cache", "6379", "redis", "DEL", "key=orders:1", "--format=json"];
    let found = &json(&bulkhead(&[&["explain"][..], &words, &PROTOCOLS].concat()))[0];
    assert_eq!(found["request"]["redis"]["command"], "DEL");
    assert_eq!(found["sides"][0]["nearest"]["fields"][0], "commands");
    let patch = &found["sides"][0]["patch"];
    assert_eq!(
        (&patch["document"]["name"], &patch["operations"][0]["path"]),
        (&"orders".into(), &"/spec/egress/1/redis/-".into())
    );
    assert_eq!(patch["operations"][0]["value"]["commands"][0], "del");
}

#[test]
fn matrix_asks_about_pods_that_do_not_run_yet() {
    let folder = std::env::temp_dir().join(format!("bulkhead-matrix-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let pod = |name: &str, phase: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: x, labels: {{app: {name}}}}}, spec: {{containers: [{{name: c}}]}}, status: {{phase: {phase}}}}}\n"
        )
    };
    let policy = "---\n{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p, namespace: x}, spec: {podSelector: {matchLabels: {app: b}}, ingress: [{from: [{podSelector: {matchLabels: {app: a}}}]}]}}\n";
    let text = ["a", "b", "c"].map(|name| pod(name, "Pending")).concat() + &pod("done", "Succeeded") + policy;
    std::fs::write(folder.join("all.yaml"), text).expect("written");
    let folder_text = folder.display().to_string();
    let found = bulkhead(&["matrix", "--probe", "TCP/80", "--format=json", &folder_text]);
    std::fs::remove_dir_all(&folder).expect("removed");
    assert_eq!(code(&found), 0, "{}", err(&found));
    assert!(err(&found).contains("no address yet: pod `x/a` and 2 more"), "{}", err(&found));
    let table = json(&found);
    let denied: Vec<String> = table
        .as_array()
        .expect("rows")
        .iter()
        .filter(|row| row["verdict"] == "deny")
        .map(|row| format!("{} {}", row["from"], row["to"]))
        .collect();
    assert_eq!(denied, [r#""x/c" "x/b""#]);
    assert_eq!(table.as_array().map(Vec::len), Some(3 * 3));
}

#[test]
fn matrix_reads_lab_files_and_asks_with_a_request() {
    let lab = examples().join("../../deploy/lab/shop.yaml").display().to_string();
    let found = json(&bulkhead(&[
        "matrix",
        "--inventory",
        &lab,
        "--probe",
        "TCP/8080",
        "--format=json",
        "audit/policies.yaml",
    ]));
    assert_eq!(found.as_array().map(Vec::len), Some(12 * 12));
    let cache = |words: &str| {
        let arguments = ["matrix", "protocols", "--probe", "TCP/6379", "--format=json", "--request", words];
        let table = json(&bulkhead(&arguments));
        let rows = table.as_array().expect("rows");
        let hit = |row: &&serde_json::Value| row["from"] == "data/orders-0" && row["to"] == "data/cache-0";
        let row = rows.iter().find(hit).expect("a row");
        assert_eq!(row["inspected"], true);
        row["verdict"].as_str().expect("a verdict").to_owned()
    };
    assert_eq!((cache("redis get key=orders:1"), cache("redis flushall")), ("allow".into(), "deny".into()));
    assert_eq!(code(&bulkhead(&["matrix", "protocols", "--probe", "TCP/1", "--request", "redsi get"])), 2);
}

#[test]
fn schedules_are_held_on_the_day_that_is_named() {
    let set = "apiVersion: bulkhead.dev/v1alpha1\nkind: Collection\nmetadata: {name: shop}\nspec:\n  covers: {namespaces: {team: shop}}\n  mode: observe\n  schedule: [{from: 2027-01-15, mode: enforce}]\n  freeze: [{from: 2027-01-10, to: 2027-01-20}]\n";
    let ask = |date: &[&str]| {
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("scheduled.yaml");
        std::fs::write(&file, set).expect("a file");
        let file = file.display().to_string();
        let fixed = [
            "explain",
            "shop/checkout",
            "shop/payments",
            "8080",
            "--policies",
            &file,
            "--inventory",
            "shop/inventory.yaml",
        ];
        bulkhead(&[&fixed[..], date].concat())
    };
    assert_eq!(code(&ask(&["--date", "2027-01-20"])), 0);
    assert_eq!(code(&ask(&["--date", "2027-01-21"])), 1);
    assert_eq!(code(&ask(&["--date", "2027-01-21T00:30:00+02:00"])), 0);
    assert_eq!(code(&ask(&["--date", "soon"])), 2);
    let without = ask(&[]);
    assert_eq!(code(&without), 0);
    assert!(
        err(&without).contains("the schedule of collection `shop` is left out, and its mode is `observe`"),
        "{}",
        err(&without)
    );
    let found = with_input(&["check", "-", "--date", "2027-03-01"], set);
    assert!(out(&found).contains("collection shop: enforce"), "{}", out(&found));
}

#[test]
fn diff_tells_what_would_change_if_a_policy_went() {
    let fixed = ["diff", "shop/policies.yaml", "--inventory", "shop/inventory.yaml"];
    let found = bulkhead(
        &[&fixed[..], &["--without", "ClusterSegmentPolicy/no-metadata", "--fail-on=widen"]].concat(),
    );
    assert_eq!(code(&found), 1, "{}", err(&found));
    assert!(
        out(&found).contains("widened   monitoring/prometheus -> outside 100.100.100.200"),
        "{}",
        out(&found)
    );
    let found = bulkhead(&[&fixed[..], &["--without", "SegmentPolicy/shop/paymets"]].concat());
    assert_eq!(code(&found), 2);
    assert!(err(&found).contains("did you mean `SegmentPolicy/shop/payments`?"), "{}", err(&found));

    let staged = shop_with(
        "staged.yaml",
        "spec:\n  workloads: {app: payments-db}",
        "spec:\n  mode: audit-removal\n  workloads: {app: payments-db}",
    );
    let found = bulkhead(&["diff", &staged, "--inventory", "shop/inventory.yaml", "--staged"]);
    assert_eq!(code(&found), 0, "{}", err(&found));
    assert!(out(&found).contains("narrowed  shop/payments -> shop/payments-db tcp/5432"), "{}", out(&found));
    assert_eq!(
        code(&bulkhead(&["diff", &staged, &staged, "--inventory", "shop/inventory.yaml", "--staged"])),
        2
    );
    assert_eq!(code(&bulkhead(&fixed)), 2);
}

#[test]
fn output_that_nobody_reads_to_its_end_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .args(["policy", "schema"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    drop(child.stdout.take());
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!((code(&ended), err(&ended)), (0, String::new()));
}
