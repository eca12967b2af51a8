//! Kafka: every topic of a request is judged before anything of it leaves.

#[path = "support/gate.rs"]
mod gate;

use bulkhead_facts::Reason;
use bulkhead_inspect::{Protocol, Question, Subject};
use gate::{End, Outcome, World, run, run_all_splits};

const WORLD: World = World { expected: Some(Protocol::Kafka), allow: orders, answer: broker, opaque: false };

/// Requests about `orders.*`, and those that a client needs to begin with.
fn orders(question: &Question<'_>) -> bool {
    let Subject::Kafka(call) = &question.subject else { return false };
    let plain = [18, 10, 12].contains(&call.api);
    plain || !call.topics.is_empty() && call.topics.iter().all(|topic| topic.starts_with("orders."))
}

fn string(text: &str) -> Vec<u8> {
    [&i16::try_from(text.len()).expect("a sound test").to_be_bytes(), text.as_bytes()].concat()
}

fn compact(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len() + 1).expect("a sound test")], text.as_bytes()].concat()
}

fn request(api: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let header =
        [api.to_be_bytes().as_slice(), &version.to_be_bytes(), &7i32.to_be_bytes(), &string("test")].concat();
    let size = i32::try_from(header.len() + body.len()).expect("a sound test").to_be_bytes();
    [size.as_slice(), &header, body].concat()
}

/// Produces one small record to each topic.
fn produce(acks: i16, topics: &[&str]) -> Vec<u8> {
    let mut body = [&[0xff, 0xff], acks.to_be_bytes().as_slice(), &[0, 0, 0, 9, 0, 0, 0]].concat();
    body.push(u8::try_from(topics.len()).expect("a sound test"));
    for topic in topics {
        body.extend([string(topic).as_slice(), &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3]].concat());
    }
    request(0, 8, &body)
}

/// The same in the flexible form.
fn produce_flexible(topics: &[&str]) -> Vec<u8> {
    let mut body = vec![0, 0, 1, 0, 0, 0, 9];
    body.push(u8::try_from(topics.len() + 1).expect("a sound test"));
    for topic in topics {
        body.extend([compact(topic).as_slice(), &[2, 0, 0, 0, 0, 4, 1, 2, 3, 0, 0]].concat());
    }
    body.push(0);
    request(0, 9, &[&[0], body.as_slice()].concat())
}

fn fetch(session: i32, epoch: i32, topics: &[&str]) -> Vec<u8> {
    let mut body = vec![0; 17];
    body.extend([session.to_be_bytes(), epoch.to_be_bytes()].concat());
    body.extend([0, 0, 0, u8::try_from(topics.len()).expect("a sound test")]);
    for topic in topics {
        body.extend([string(topic).as_slice(), &[0, 0, 0, 1], &[0; 28]].concat());
    }
    body.extend([0, 0, 0, 0, 0, 0]);
    request(1, 11, &body)
}

fn metadata(topics: Option<&[&str]>) -> Vec<u8> {
    let count = topics.map_or(-1, |topics| i32::try_from(topics.len()).expect("a sound test"));
    let names: Vec<u8> = topics.unwrap_or_default().iter().flat_map(|topic| string(topic)).collect();
    request(3, 5, &[count.to_be_bytes().as_slice(), &names, &[1]].concat())
}

const CORRELATION: [u8; 4] = [0, 0, 0, 7];

/// An answer to each request; one to a fetch opens session 5.
fn broker(mut received: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(size) = received.first_chunk().map(|size| u32::from_be_bytes(*size) as usize) {
        let Some(one) = received.get(4..4 + size) else { break };
        let body: &[u8] = match one[1] {
            0 if received[4 + 17] == 0 && one[3] == 8 && one[16..18] == [0, 0] => &[],
            1 => &[0, 0, 0, 0, 0, 0, 0, 0, 0, 5],
            18 => &[0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 13, 0, 1, 0, 4, 0, 17],
            _ => &[1, 2, 3],
        };
        if !body.is_empty() {
            let size = u32::try_from(body.len() + 4).expect("a sound test").to_be_bytes();
            out.extend([size.as_slice(), &CORRELATION, body].concat());
        }
        received = &received[4 + size..];
    }
    out
}

fn check(requests: &[Vec<u8>], asked: &[&str], left: usize, end: End) -> Outcome {
    let outcome = run_all_splits(WORLD, &requests.concat());
    assert_eq!(outcome.asked, asked);
    assert_eq!(outcome.to_server, requests[..left].concat());
    assert_eq!((outcome.to_client.clone(), outcome.end), (broker(&outcome.to_server), end), "{asked:?}");
    outcome
}

/// Asks how topics are laid out, from a page on that begins in another one.
fn describe(topics: &[&str], page: Option<&str>) -> Vec<u8> {
    let mut body = vec![0, u8::try_from(topics.len() + 1).expect("a sound test")];
    topics.iter().for_each(|topic| body.extend([compact(topic).as_slice(), &[0]].concat()));
    body.extend([0, 0, 7, 208]);
    body.extend(page.map_or(vec![0xff], |topic| [&[1], compact(topic).as_slice(), &[0; 5]].concat()));
    request(75, 0, &[body.as_slice(), &[0]].concat())
}

#[test]
fn whoever_asks_how_topics_are_laid_out_names_them() {
    for (topics, page, asked, passes) in [
        (&["orders.a", "orders.b"][..], None, "75 [orders.a orders.b]", true),
        (&["orders.a"], Some("orders.b"), "75 [orders.a orders.b]", true),
        (&["orders.a", "secret"], None, "75 [orders.a secret]", false),
        (&["orders.a"], Some("secret"), "75 [orders.a secret]", false),
        (&[], Some("orders.a"), "75 []", false),
        (&[], None, "75 []", false),
    ] {
        let end = if passes { End::Open } else { End::Told };
        check(&[describe(topics, page)], &[asked], usize::from(passes), end);
    }
}

#[test]
fn requests_about_allowed_topics_pass_unchanged() {
    check(
        &[
            produce(1, &["orders.a", "orders.b"]),
            produce_flexible(&["orders.c"]),
            fetch(0, -1, &["orders.a"]),
            metadata(Some(&["orders.a"])),
            request(12, 3, b"group"),
        ],
        &["0 [orders.a orders.b]", "0 [orders.c]", "1 [orders.a]", "3 [orders.a]", "12 []"],
        5,
        End::Open,
    );
}

/// Kafka (Cilium Kafka policy removed): new versions and flexible headers that a filter does not know.
#[test]
fn one_other_topic_denies_the_whole_request_and_what_was_sent_before_is_answered() {
    refused(
        &[produce(1, &["orders.a"]), produce(1, &["orders.a", "secrets"])],
        &["0 [orders.a]", "0 [orders.a secrets]"],
        1,
        2,
    );
    refused(&[produce_flexible(&["orders.a", "secrets"])], &["0 [orders.a secrets]"], 0, 2);
    refused(&[fetch(0, 0, &["secrets"])], &["1 [secrets]"], 0, 1);
    // Versions of which nothing is known, and requests without topics.
    for unknown in
        [request(0, 99, b"?"), request(1, 13, &[0; 40]), request(77, 0, b"?"), request(11, 5, b"?")]
    {
        let outcome = run_all_splits(WORLD, &unknown);
        assert_eq!((outcome.asked.len(), outcome.to_server.len(), outcome.end), (1, 0, End::Told));
        assert!(outcome.asked[0].ends_with(" []"), "{:?}", outcome.asked);
    }
}

/// So many requests leave; the one behind them is answered here, with the error for so many topics, and the connection goes on.
fn refused(requests: &[Vec<u8>], asked: &[&str], left: usize, topics: usize) {
    let outcome = run_all_splits(WORLD, &requests.concat());
    assert_eq!(outcome.asked, asked);
    assert_eq!(outcome.to_server, requests[..left].concat());
    let before = broker(&outcome.to_server);
    let ours =
        outcome.to_client.strip_prefix(before.as_slice()).expect("what was asked before is answered before");
    let length = u32::from_be_bytes(*ours.first_chunk().expect("an answer")) as usize;
    assert_eq!((ours.len(), ours.get(4..8)), (length + 4, Some(&CORRELATION[..])));
    assert_eq!(ours.windows(6).filter(|bytes| *bytes == [0, 0, 0, 0, 0, 29]).count(), topics, "{ours:?}");
    assert_eq!(outcome.end, End::Open, "{asked:?}");
}

#[test]
fn metadata_of_topics_that_are_not_allowed_names_the_brokers_and_the_error() {
    // Throttle, one broker, cluster, controller, no topic.
    fn brokers(received: &[u8]) -> Vec<u8> {
        let body = [
            &[0; 4][..],
            &[0, 0, 0, 1, 0, 0, 0, 0, 0, 1, b'b', 0, 0, 0x23, 0x84, 0xff, 0xff],
            &[0xff; 2],
            &[0; 4],
        ];
        let body = [body.concat().as_slice(), &[0; 4]].concat();
        let size = u32::try_from(body.len() + 4).expect("a sound test").to_be_bytes();
        if received.is_empty() { Vec::new() } else { [size.as_slice(), &CORRELATION, &body].concat() }
    }
    for (asked, allowed, topics) in [
        (None, &[][..], &[][..]),
        (Some(&["secrets"][..]), &[], &["secrets"]),
        (Some(&["orders.a", "secrets", "orders.b", "more"]), &["orders.a", "orders.b"], &["secrets", "more"]),
    ] {
        let outcome = run_all_splits(World { answer: brokers, ..WORLD }, &metadata(asked));
        let left = metadata(Some(allowed));
        assert_eq!((outcome.to_server.clone(), outcome.end), (left.clone(), End::Open));
        let whole = brokers(&left);
        let (before, _) = whole.split_at(whole.len() - 4);
        let mut expected = before.to_vec();
        expected.extend(u32::try_from(topics.len()).expect("a sound test").to_be_bytes());
        for topic in topics {
            expected.extend([&[0, 29], string(topic).as_slice(), &[0, 0, 0, 0, 0]].concat());
        }
        let size = u32::try_from(expected.len() - 4).expect("a sound test").to_be_bytes();
        expected[..4].copy_from_slice(&size);
        assert_eq!(outcome.to_client, expected);
    }
}

/// Clients of librdkafka ask for no more on every connection: each was reported as denied, although all were answered.
#[test]
fn who_asks_for_brokers_and_no_topic_is_answered_and_nobody_is_asked() {
    let nobody = World { allow: |_| false, ..WORLD };
    for version in 1..=12 {
        let flexible = version >= 9;
        let none: &[u8] = if flexible { &[0, 1] } else { &[0; 4] };
        let rest = usize::from(version >= 4)
            + usize::from((8..=10).contains(&version))
            + usize::from(version >= 8)
            + usize::from(flexible);
        let brokers = request(3, version, &[none, &vec![0; rest]].concat());
        let outcome = run_all_splits(nobody, &brokers);
        assert_eq!((&outcome.to_server, outcome.asked.len()), (&brokers, 0), "version {version}");
        assert_eq!((outcome.to_client, outcome.end), (broker(&brokers), End::Open));
    }
    // At first an empty list meant all topics.
    let outcome = run_all_splits(nobody, &request(3, 0, &[0; 4]));
    assert_eq!((outcome.asked, outcome.to_server.len()), (vec!["3 []".to_owned()], 0));
}

/// Clients try again for minutes what a closed connection is the answer to.
#[test]
fn who_may_not_begin_a_group_or_a_transaction_or_make_a_topic_is_told_so() {
    let nobody = World { allow: |_| false, ..WORLD };
    const NO_ONE: [u8; 10] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff];
    const NO_ONE_FLEXIBLE: [u8; 9] = [0xff, 0xff, 0xff, 0xff, 1, 0xff, 0xff, 0xff, 0xff];
    let (group, transaction) = ([0, 30], [0, 53]);
    let no_producer = [0xff; 10];
    let made = [&[0, 2], compact("a").as_slice(), &[0xff; 6], &[1, 1, 0, 0, 0, 0, 9, 0, 0]].concat();
    let answers = [
        (10, 0, string("g"), [&group[..], &NO_ONE].concat()),
        (
            10,
            2,
            [string("t"), vec![1]].concat(),
            [&[0; 4][..], &transaction, &[0xff, 0xff], &NO_ONE].concat(),
        ),
        (
            10,
            3,
            [&[0], compact("g").as_slice(), &[0, 0]].concat(),
            [&[0; 5][..], &group, &[0], &NO_ONE_FLEXIBLE, &[0]].concat(),
        ),
        (
            10,
            4,
            [&[0, 0, 3], compact("g").as_slice(), &compact("h"), &[0]].concat(),
            [
                &[0; 5][..],
                &[3],
                &compact("g"),
                &NO_ONE_FLEXIBLE,
                &group,
                &[0, 0],
                &compact("h"),
                &NO_ONE_FLEXIBLE,
                &group,
                &[0, 0, 0],
            ]
            .concat(),
        ),
        (22, 1, [0xff, 0xff, 0, 0, 0, 1].to_vec(), [&[0; 4][..], &[0, 31], &no_producer].concat()),
        (
            22,
            4,
            [&[0], compact("t").as_slice(), &[0; 15]].concat(),
            [&[0; 5][..], &transaction, &no_producer, &[0]].concat(),
        ),
        (
            19,
            5,
            made.clone(),
            [&[0; 5][..], &[2], &compact("a"), &[0, 29, 0], &[0xff; 6], &[0, 0, 0]].concat(),
        ),
        (
            19,
            7,
            made,
            [&[0; 5][..], &[2], &compact("a"), &[0; 16], &[0, 29, 0], &[0xff; 6], &[0, 0, 0]].concat(),
        ),
        (16, 0, Vec::new(), [&[0, 31][..], &[0; 4]].concat()),
        (16, 4, vec![0, 1, 0], [&[0; 5][..], &[0, 31, 1, 0]].concat()),
        (
            60,
            1,
            vec![0, 0, 1, 0],
            [&[0; 5][..], &[0, 31, 0, 1, 1], &[0xff; 4], &[1, 0x80, 0, 0, 0, 0]].concat(),
        ),
        (
            20,
            1,
            [&[0, 0, 0, 1], string("a").as_slice(), &[0; 4]].concat(),
            [&[0; 4][..], &[0, 0, 0, 1], &string("a"), &[0, 29]].concat(),
        ),
    ];
    for (api, version, body, answer) in answers {
        let outcome = run_all_splits(nobody, &request(api, version, &body));
        let size = u32::try_from(answer.len() + 4).expect("a sound test").to_be_bytes();
        assert_eq!(outcome.to_client, [&size, &CORRELATION, answer.as_slice()].concat(), "{api} {version}");
        assert_eq!((outcome.to_server.len(), outcome.asked.len(), outcome.end), (0, 1, End::Open));
    }
    // More to say than was asked.
    let many = [&[0, 0, 9][..], &[1; 8], &[0]].concat();
    assert_eq!(run_all_splits(nobody, &request(10, 4, &many)).end, End::Told);
}

/// A consumer whose topic is not allowed asked for its offsets again and again, and its app was told nothing.
#[test]
fn who_may_not_ask_where_a_group_has_read_to_is_told_so() {
    let older =
        [string("g").as_slice(), &[0, 0, 0, 1], &string("secret"), &[0, 0, 0, 1, 0, 0, 0, 2]].concat();
    let topic = [&[2][..], &compact("secret"), &[2, 0, 0, 0, 2, 0]].concat();
    let newer = [&[0, 2][..], &compact("g"), &[0], &[0xff; 4], &topic, &[0, 0, 0]].concat();
    let of_all = [&[0, 2][..], &compact("g"), &[0], &[0xff; 4], &[0, 0, 0, 0]].concat();
    let of_two =
        [&[0, 3][..], &[&compact("g")[..], &[0], &[0xff; 4], &topic, &[0]].concat().repeat(2), &[0, 0]]
            .concat();
    let none = [0xff; 8];
    let told = [
        (
            5,
            older,
            [
                &[0; 4][..],
                &[0, 0, 0, 1],
                &string("secret"),
                &[0, 0, 0, 1, 0, 0, 0, 2],
                &none,
                &[0xff; 4],
                &[0, 0, 0, 29, 0, 0],
            ]
            .concat(),
        ),
        (
            9,
            newer,
            [
                &[0; 5][..],
                &[2],
                &compact("g"),
                &[2],
                &compact("secret"),
                &[2, 0, 0, 0, 2],
                &none,
                &[0xff; 4],
                &[1, 0, 29, 0, 0, 0, 0, 0, 0],
            ]
            .concat(),
        ),
        (9, of_all, [&[0; 5][..], &[2], &compact("g"), &[1, 0, 30, 0, 0]].concat()),
    ];
    for (version, body, answer) in told {
        let outcome = run_all_splits(WORLD, &request(9, version, &body));
        let size = u32::try_from(answer.len() + 4).expect("a sound test").to_be_bytes();
        assert_eq!(outcome.to_client, [&size, &CORRELATION, answer.as_slice()].concat(), "version {version}");
        assert_eq!((outcome.to_server.len(), outcome.end), (0, End::Open));
    }
    assert_eq!(run_all_splits(WORLD, &request(9, 9, &of_two)).end, End::Told);
}

/// As librdkafka asks for them: a null, and behind the rest a list of the older form.
#[test]
fn who_asks_for_all_topics_and_says_more_than_that_asks_for_all_topics() {
    let all = request(3, 12, &[0, 0, 0, 0, 0, 1, 0, 0]);
    let everything = World { allow: |_| true, ..WORLD };
    let outcome = run_all_splits(everything, &all);
    assert_eq!((outcome.asked, outcome.to_server), (vec!["3 []".to_owned()], all.clone()));
    let outcome = run_all_splits(WORLD, &all);
    assert_eq!((outcome.asked, outcome.end), (vec!["3 []".to_owned()], End::Open));
    assert_eq!(outcome.to_server, request(3, 12, &[0, 1, 0, 0, 0, 1, 0, 0]), "about none of them");
}

#[test]
fn one_group_that_asks_for_all_topics_outweighs_what_others_name() {
    let named = [compact("orders.a").as_slice(), &[2, 0, 0, 0, 1, 0]].concat();
    let group = |topics: &[u8]| [compact("group").as_slice(), topics, &[0]].concat();
    let (some, all) = (group(&[&[2], named.as_slice()].concat()), group(&[0]));
    let fetch = |groups: [&[u8]; 2]| request(9, 8, &[&[0, 3], groups[0], groups[1], &[0, 0]].concat());
    check(&[fetch([&some, &some])], &["9 [orders.a orders.a]"], 1, End::Open);
    check(&[fetch([&some, &all])], &["9 []"], 0, End::Told);
    check(&[fetch([&all, &some])], &["9 []"], 0, End::Told);
}

#[test]
fn what_a_session_goes_on_fetching_is_what_it_was_told_before() {
    let mut gate = gate::Gate::new(WORLD, 1_000);
    for request in
        [fetch(0, 0, &["orders.a"]), fetch(5, 1, &[]), fetch(5, 2, &["orders.b"]), fetch(5, 3, &[])]
    {
        gate.client(&request);
    }
    let asked = ["1 [orders.a]", "1 [orders.a]", "1 [orders.a orders.b]", "1 [orders.a orders.b]"];
    assert_eq!((gate.outcome.asked.as_slice(), gate.outcome.end), (&asked.map(str::to_owned)[..], End::Open));
    // A session of another connection: nobody knows what it fetches.
    refused(&[fetch(9, 1, &[])], &["1 []"], 0, 0);
    refused(&[fetch(9, 1, &["orders.a"])], &["1 []"], 0, 1);
    // Nor once something was added to it, as it may be where everything passes until the policy changes.
    let everything = World { allow: |_| true, ..WORLD };
    let outcome =
        run_all_splits(everything, &[fetch(9, 1, &["orders.a"]), fetch(9, 2, &["orders.b"])].concat());
    assert_eq!((outcome.asked, outcome.end), (vec!["1 []".to_owned(); 2], End::Open));
}

#[test]
fn a_session_of_many_topics_is_asked_about_in_full_once_and_again_after_a_change_of_policy() {
    let names: Vec<String> = (0..100).map(|number| format!("orders.{number:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut gate = gate::Gate::new(WORLD, 10_000);
    let asked = |gate: &mut gate::Gate, request: &[u8]| {
        gate.client(request);
        gate.outcome.asked.last().expect("it is asked about").matches("orders.").count()
    };
    assert_eq!(asked(&mut gate, &fetch(0, 0, &names)), 100);
    assert_eq!(asked(&mut gate, &fetch(5, 1, &[])), 100, "all that it goes on with, once");
    assert_eq!(asked(&mut gate, &fetch(5, 2, &[])), 17);
    assert_eq!(asked(&mut gate, &fetch(5, 3, &["orders.new"])), 18, "and what is new");
    gate.conversation.expect([Protocol::Kafka]);
    assert_eq!(asked(&mut gate, &fetch(5, 4, &[])), 101, "all under another policy");
    assert_eq!(asked(&mut gate, &fetch(5, 5, &[])), 17);
    assert_eq!(gate.outcome.end, End::Open);
    let before = gate.outcome.to_server.len();
    gate.client(&fetch(5, 6, &["secret"]));
    let last = gate.outcome.asked.last().expect("it is asked about");
    assert!(last.contains("secret") && gate.outcome.to_server.len() == before, "{last}");
}

#[test]
fn a_request_that_asks_for_no_answer_gets_none() {
    let outcome = run(WORLD, &[produce(0, &["orders.a"]), request(12, 3, b"group")].concat(), 1_000);
    assert_eq!((outcome.asked.len(), outcome.end), (2, End::Open));
    assert_eq!(outcome.to_client, [0, 0, 0, 7, 0, 0, 0, 7, 1, 2, 3]);
}

#[test]
fn clients_are_offered_versions_that_can_be_read() {
    let outcome = run_all_splits(WORLD, &request(18, 0, b""));
    let body = [0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 12, 0, 1, 0, 4, 0, 12];
    assert_eq!(outcome.to_client, [&[0, 0, 0, 22], &CORRELATION, body.as_slice()].concat());
    // The flexible form, with a count of one byte.
    let flexible = |received: &[u8]| match received.is_empty() {
        true => Vec::new(),
        false => [0, 0, 0, 14, 0, 0, 0, 7, 0, 0, 2, 0, 1, 0, 4, 0, 17, 0].to_vec(),
    };
    let outcome = run_all_splits(World { answer: flexible, ..WORLD }, &request(18, 3, &[0, 1, 1, 0]));
    assert_eq!(outcome.to_client[11..], [0, 1, 0, 4, 0, 12, 0]);
}

/// From version 5 on it also adds the offsets to the transaction, for which such clients do not ask beforehand.
#[test]
fn clients_of_kafka_4_may_commit_offsets_within_a_transaction_as_their_broker_expects() {
    let offered = [0, 0, 0, 0, 0, 1, 0, 28, 0, 0, 0, 5];
    let answer = |received: &[u8]| match received.is_empty() {
        true => Vec::new(),
        false => [&[0, 0, 0, 16], &CORRELATION, [0, 0, 0, 0, 0, 1, 0, 28, 0, 0, 0, 5].as_slice()].concat(),
    };
    let outcome = run_all_splits(World { answer, ..WORLD }, &request(18, 0, b""));
    assert_eq!(outcome.to_client[8..], offered);
    for (topic, asked, passes) in [("orders.a", "28 [orders.a]", true), ("secret", "28 [secret]", false)] {
        let partition = [&[0, 0, 0, 1][..], &[0; 8], &[0xff; 4], &[0, 0]].concat();
        let topic = [&[2][..], &compact(topic), &[2], &partition, &[0]].concat();
        let body =
            [&[0][..], &compact("t"), &compact("g"), &[0; 14], &compact("m"), &[0], &topic, &[0]].concat();
        let end = if passes { End::Open } else { End::Told };
        check(&[request(28, 5, &body)], &[asked], usize::from(passes), end);
    }
}

#[test]
fn what_does_not_read_as_its_version_says_is_refused() {
    let mut cut = produce(1, &["orders.a"]);
    cut.truncate(cut.len() - 1);
    let size = i32::try_from(cut.len() - 4).expect("a sound test").to_be_bytes();
    cut[..4].copy_from_slice(&size);
    let long = request(3, 5, &[&1i32.to_be_bytes(), string("orders.a").as_slice(), &[1, 0]].concat());
    for hostile in [
        cut,
        long,
        metadata(Some(&["orders/a"])),
        metadata(Some(&[""])),
        request(3, 5, &i32::MAX.to_be_bytes()),
        request(3, 5, &(-2i32).to_be_bytes()),
        vec![0, 0, 0, 3, 0, 0, 0],
        vec![0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        vec![0xff; 8],
        request(17, 0, &string("PLAIN")),
    ] {
        let outcome = run_all_splits(WORLD, &hostile);
        assert_eq!((outcome.asked.len(), outcome.to_server.len()), (0, 0), "{}", hostile.escape_ascii());
        assert_ne!(outcome.end, End::Open, "{}", hostile.escape_ascii());
    }
}

#[test]
fn an_answer_to_another_request_ends_the_connection() {
    let other =
        |received: &[u8]| if received.is_empty() { Vec::new() } else { vec![0, 0, 0, 5, 0, 0, 0, 8, 1] };
    let outcome = run(World { answer: other, ..WORLD }, &request(12, 3, b"group"), 100);
    assert_eq!((outcome.to_client.len(), outcome.end), (0, End::Reset(Reason::Malformed)));
    let unasked = |_: &[u8]| vec![0, 0, 0, 5, 0, 0, 0, 7, 1];
    assert_eq!(run(World { answer: unasked, ..WORLD }, &[0, 0], 100).end, End::Reset(Reason::Malformed));
}
