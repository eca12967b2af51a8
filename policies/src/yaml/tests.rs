//! The reader as a whole: what it reads, what it refuses, and that nothing makes it panic.

use super::*;
use proptest::prelude::*;

fn parse_text(text: &str) -> Result<Vec<Node>, Vec<Diagnostic>> {
    parse(&Source { name: "t.yaml".into(), text: text.into() })
}

fn refusal(text: &str) -> String {
    parse_text(text).expect_err(text).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_node_knows_its_place() {
    let documents = parse_text("kind: A\nspec:\n  ports: [80, \"http\"]\n---\nkind: B\n").unwrap();
    assert_eq!(documents.len(), 2);
    let ports = documents[0].child("spec").unwrap().child("ports").unwrap();
    assert_eq!(ports.span, Span { line: 3, column: 10, width: 1 });
    assert_eq!(ports.as_list().unwrap()[1].span, Span { line: 3, column: 15, width: 6 });
    assert_eq!(documents[1].as_map().unwrap()[0].key_span, Span { line: 5, column: 1, width: 4 });
}

#[test]
fn json_and_yaml_give_the_same_tree() {
    let text = r#"{"a": [1, true, null, "x\u00e9\ud83d\ude00\/"], "b": {"c": -1.5e3}}"#;
    let json = json::read(text).ok().unwrap();
    let yaml = parse_text(&format!("# comment\n{}", text.replace(r"\ud83d\ude00", "\u{1f600}"))).unwrap();
    assert_eq!(strip(&json[0]), strip(&yaml[0]));
}

/// The tree as text, without places.
fn strip(node: &Node) -> String {
    match &node.value {
        Value::Scalar(scalar) => format!("{:?}", scalar),
        Value::List(items) => format!("{:?}", items.iter().map(strip).collect::<Vec<_>>()),
        Value::Map(entries) => {
            format!("{:?}", entries.iter().map(|e| (&e.key, strip(&e.value))).collect::<Vec<_>>())
        }
    }
}

#[test]
fn a_flow_mapping_that_is_no_json_is_yaml() {
    let documents = parse_text("{kind: A, x: [a, b]}").unwrap();
    assert_eq!(documents[0].child("kind").unwrap().as_str(), Some("A"));
}

#[test]
fn doubtful_documents_are_refused_with_place_and_reason() {
    for (text, expected) in [
        ("a: 1\nb: 2\na: 3\n", "t.yaml:3:1: error[duplicate-key]: key `a` is there twice"),
        ("{\"a\": 1, \"a\": 2}", "t.yaml:1:10: error[duplicate-key]: key `a` is there twice"),
        ("a: !!str 1\n", "t.yaml:1:4: error[tag]: tags are not read"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "t.yaml:3:3: error[bad-key]: key has no doubtless reading"),
        ("? [a]\n: b\n", "error[bad-key]: a list or mapping cannot be a key"),
        ("a: &x [*x]\n", "error[alias]: an alias stands inside of what it names"),
        ("a: *nobody\n", "error[syntax]: not YAML"),
        ("yes: 1\n", "t.yaml:1:1: error[bad-key]"),
        ("a:\n\tb: 1\n", "indent with spaces"),
        ("a: b: c\n", "quote a value that contains"),
        ("{\"a\": 1,}x", "error[syntax]: not JSON: expects a key in double quotes"),
    ] {
        let found = refusal(text);
        assert!(found.contains(expected), "{text:?} gave {found}");
    }
}

#[test]
fn all_duplicates_are_reported_in_one_run() {
    assert_eq!(parse_text("a: 1\na: 2\nb: {c: 1, c: 2}\n").unwrap_err().len(), 2);
}

#[test]
fn aliases_are_read_within_their_limit() {
    let documents = parse_text("a: &x {b: 1}\nc: *x\n").unwrap();
    assert_eq!(strip(documents[0].child("a").unwrap()), strip(documents[0].child("c").unwrap()));
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        bomb.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            vec![format!("*a{}", level - 1); 10].join(", ")
        ));
    }
    assert!(refusal(&bomb).contains("error[limit]: anchors and aliases stand for more than"));
}

#[test]
fn nesting_is_limited_in_both_readers() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("{a: ", "}")] {
        let text = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        assert!(refusal(&text).contains("nested deeper than 64 levels"), "{open}");
    }
    let block: String = (0..100).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert!(refusal(&block).contains("nested deeper than 64 levels"));
}

#[test]
fn a_source_that_is_too_large_is_refused_before_it_is_read() {
    let source = Source { name: "t".into(), text: "a: 1".into() };
    let found = parse_within(&source, 3).unwrap_err();
    assert_eq!(found[0].message, "source has 4 bytes, at most 3 are read");
}

#[test]
fn fields_collect_all_that_is_wrong() {
    let documents = parse_text("nmae: x\nport: high\nlabel: true\nempty:\nmode: enforced\n").unwrap();
    let mut report = Report::new("t.yaml");
    let mut fields = Fields::open(&mut report, &documents[0], "a rule", Nulls::Refused).unwrap();
    assert_eq!(fields.required_text(&mut report, "name"), None);
    assert_eq!(fields.integer(&mut report, "port", 1..=65535), None);
    assert_eq!(fields.text(&mut report, "label"), None);
    assert_eq!(fields.text(&mut report, "empty"), None);
    assert_eq!(fields.choice(&mut report, "mode", &[("audit", 1), ("enforce", 2)]), None);
    fields.finish(&mut report);
    let found: Vec<String> = report.finish().iter().map(ToString::to_string).collect();
    let expected = [
        "t.yaml:1:1: error[missing-field]: a rule needs the field `name`",
        "t.yaml:1:1: error[unknown-field]: a rule has no field `nmae`\n  help: did you mean `name`?",
        "t.yaml:2:7: error[bad-value]: `port` must be a number from 1 to 65535, not text",
        "t.yaml:3:8: error[wrong-type]: `label` must be text, not a boolean\n  help: quote it: \"true\"",
        "t.yaml:4:1: error[empty-field]: field `empty` has no value\n  help: give it a value, or remove the line if it should not count",
        "t.yaml:5:7: error[bad-value]: `mode` is `enforced`\n  help: write `audit` or `enforce`",
    ];
    assert_eq!(found, expected);
}

#[test]
fn an_empty_source_has_no_documents() {
    for text in ["", "---\n", "# only a comment\n", "\u{feff}", "---\n---\n"] {
        assert_eq!(parse_text(text).unwrap(), [], "{text:?}");
    }
}

fn formatted(text: &str) -> String {
    format(&Source { name: "t.yaml".into(), text: text.into() })
        .unwrap_or_else(|found| panic!("{text}: {found:#?}"))
}

#[test]
fn there_is_one_layout() {
    for (text, expected) in [
        ("kind:   A\nspec:\n    x:\n    - 1\n    -   2\n", "kind: A\nspec:\n  x:\n    - 1\n    - 2\n"),
        (
            "spec: {a: 1}\nkind: A\napiVersion: v\nother: x\n",
            "apiVersion: v\nkind: A\nspec: {a: 1}\nother: x\n",
        ),
        ("a: [ 1,2 , {b :  c} ]\n", "a: [1, 2, {b: c}]\n"),
        ("a: 'x: y'\nb: \"true\"\nc: 'it''s'\n", "a: \"x: y\"\nb: \"true\"\nc: \"it's\"\n"),
        ("a:\nb: ~\nc: null\n", "a:\nb: ~\nc: null\n"),
        ("{\"kind\": \"A\", \"n\": [1, true, null]}", "kind: \"A\"\nn: [1, true, null]\n"),
        ("- a: 1\n  b: 2\n-\n  c: 3\n- - 1\n", "- a: 1\n  b: 2\n- c: 3\n-\n  - 1\n"),
        ("a: |\n    x\n     y\n\n    z\nb: >-\n  p\n  q\n", "a: |\n  x\n   y\n\n  z\nb: \"p q\"\n"),
        ("a: b\n\n  c\n", "a: |-\n  b\n  c\n"),
        ("a: {}\nb: []\n", "a: {}\nb: []\n"),
        ("a: 1\n---\n\nb: 2\n...\n---\n", "a: 1\n---\nb: 2\n"),
        ("", ""),
    ] {
        let found = formatted(text);
        assert_eq!(found, expected, "{text:?}");
        assert_eq!(formatted(&found), found, "twice: {text:?}");
    }
}

#[test]
fn comments_and_blank_lines_stay_where_they_belong() {
    let text = "# head\n\n# of kind\nkind: A   # beside\n\n\nspec: # of spec\n  # of x\n  x: [1, 2] # two\n\n  y:\n  # of item\n  - a: \"# none\" # real\n    # of b\n    b: c#d\n  z: {\n    # forces lines\n    p: 1 }\n# end\n---\n# second\nk: 2\n";
    let expected = "# head\n\n# of kind\nkind: A  # beside\n\nspec:  # of spec\n  # of x\n  x: [1, 2]  # two\n\n  y:\n    # of item\n    - a: \"# none\"  # real\n      # of b\n      b: \"c#d\"\n  z:\n    # forces lines\n    p: 1\n# end\n---\n# second\nk: 2\n";
    let found = formatted(text);
    assert_eq!(found, expected);
    assert_eq!(formatted(&found), found);
}

#[test]
fn braces_that_do_not_fit_are_broken_up() {
    let long = "x".repeat(60);
    let found = formatted(&format!("a: {{b: {long}, c: [{long}]}}\n"));
    assert_eq!(found, format!("a:\n  b: {long}\n  c: [{long}]\n"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_reader_panic(text in r#"([-:?,\[\]{}#&*!|>'"%@` \t\n\ra-c0-9~<=.\\u]|[^a])*"#) {
        let _ = parse_text(&text);
    }

    #[test]
    fn no_mutation_of_a_document_makes_the_reader_panic(at in 0usize..400, cut in 0usize..40, insert in ".{0,6}") {
        const SEED: &str = "apiVersion: v1\nkind: \"List\"\nitems:\n- {a: [1, 2], 'b': |\n    x}\n- &a\n  ? k\n  : >-\n    folded\n    text\n- *a\n---\n# end\n...\n%YAML 1.2\n---\na: [b, {c: d}]\n";
        let mut text: Vec<char> = SEED.chars().collect();
        let start = at.min(text.len());
        let end = (start + cut).min(text.len());
        text.splice(start..end, insert.chars());
        let _ = parse_text(&text.into_iter().collect::<String>());
    }

    #[test]
    fn formatting_keeps_the_tree_and_is_done_at_once(
        at in 0usize..400, cut in 0usize..40, insert in r#"([-:,\[\]{}#"'/\n a-c0-9*|>]{0,8})|(.{0,4})"#,
    ) {
        const SEED: &str = "# head\nkind: A # x\nspec:\n  a:\n  - {b: 1, c: [x, \"y\"]}\n  - d: |\n      e\n      f\n\n    # g\n    h: 'i'\n---\n{\"k\": [1, -2.5, null, true, \"z: #\"]}\n";
        let mut text: Vec<char> = SEED.chars().collect();
        let start = at.min(text.len());
        let end = (start + cut).min(text.len());
        text.splice(start..end, insert.chars());
        let text: String = text.into_iter().collect();
        if let Ok(before) = parse_text(&text)
            && let Ok(found) = format(&Source { name: "t.yaml".into(), text: text.clone() })
        {
            let after = parse_text(&found);
            prop_assert!(after.is_ok(), "{:?} became {:?}: {:?}", text, found, after);
            let trees = |documents: &[Node]| documents.iter().map(sorted).collect::<Vec<_>>();
            prop_assert_eq!(trees(&before), trees(&after.unwrap()), "{:?} became {:?}", text, found);
            prop_assert_eq!(formatted(&found), found, "{:?}", text);
        }
    }
}

/// The tree as text with the keys of mappings in order, since the top is reordered, and without quotes that do not matter.
fn sorted(node: &Node) -> String {
    match &node.value {
        Value::Scalar(_) if node.is_null() => "null".to_owned(),
        Value::Scalar(scalar) => format!("{:?} {:?}", scalar.text, scalar.kind()),
        Value::List(items) => format!("{:?}", items.iter().map(sorted).collect::<Vec<_>>()),
        Value::Map(entries) => {
            let mut shown: Vec<_> = entries.iter().map(|e| (&e.key, sorted(&e.value))).collect();
            shown.sort();
            format!("{shown:?}")
        }
    }
}
