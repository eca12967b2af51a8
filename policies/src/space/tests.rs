//! That the kinds stand for every request, on random sections and requests.

use super::requests::{Asked, of_sections};
use crate::decide::section_matches;
use crate::model::{HeaderMatch, HeaderValueMatch, HttpMatch, L7Section};
use crate::naive::random::{self, Random};
use crate::questions::{HttpQuestion, RequestQuestion};
use bulkhead_facts::{Effect, PathTemplate, Request, UrlPath};
use std::collections::BTreeSet;

/// What each section says of a request, or of bytes that nobody can read.
fn said(sections: &[Asked<'_>], request: Option<&RequestQuestion>) -> Vec<bool> {
    let effect = |deny: bool| Some(if deny { Effect::Deny } else { Effect::Allow });
    let each = |request: &Request<'_>| {
        sections.iter().map(|(deny, section)| section_matches(section, request, effect(*deny))).collect()
    };
    match request {
        Some(request) => request.with(|request| each(&request.unwrap())),
        None => each(&Request::Opaque),
    }
}

#[test]
fn every_request_is_told_from_others_as_one_of_the_kinds_is() {
    let mut seen = [0; 7];
    for seed in 0..600 {
        let mut random = Random(seed);
        let sections: Vec<L7Section> =
            (0..1 + random.below(4)).map(|_| random::section(&mut random)).collect();
        let asked: Vec<Asked<'_>> = sections.iter().map(|section| (random.once_in(2), section)).collect();
        let kinds = of_sections(&asked, false).unwrap();
        let known: BTreeSet<Vec<bool>> =
            kinds.iter().map(|kind| said(&asked, kind.request.as_ref())).collect();
        for _ in 0..50 {
            let request = random::request(&mut random).question();
            // A path that is not in its normal form is judged as two, each of which is.
            if request
                .as_ref()
                .and_then(RequestQuestion::as_http)
                .is_some_and(|http| !is_normal(&http.target))
            {
                continue;
            }
            seen[request.as_ref().map_or(0, protocol_number)] += 1;
            let found = said(&asked, request.as_ref());
            assert!(known.contains(&found), "seed {seed}: {asked:#?} {request:?}");
        }
    }
    assert!(seen.iter().all(|count| *count > 200), "{seen:?}");
}

fn is_normal(target: &str) -> bool {
    let path = target.split('?').next().unwrap();
    UrlPath::parse(path).unwrap().normal() == path
}

fn protocol_number(request: &RequestQuestion) -> usize {
    match request {
        RequestQuestion::Http(_) | RequestQuestion::Grpc(_) => 1,
        RequestQuestion::Tls(_) => 2,
        RequestQuestion::Dns(_) => 3,
        RequestQuestion::Redis(_) => 4,
        RequestQuestion::Postgres(_) => 5,
        RequestQuestion::Kafka(_) => 6,
    }
}

#[test]
fn values_that_servers_read_as_lists_or_under_another_name_are_kinds_of_their_own() {
    let texts = ["a", "ab", "b", "a,b"];
    let names = ["x-role", "x_role"];
    for seed in 0..400 {
        let mut random = Random(seed);
        let mut header = || {
            let text = random.pick(&texts).to_owned();
            let value = match random.below(4) {
                0 => HeaderValueMatch::Present,
                1 => HeaderValueMatch::Absent,
                2 => HeaderValueMatch::Exact(text),
                _ => HeaderValueMatch::Prefix(text),
            };
            let headers = vec![HeaderMatch { name: random.pick(&names).to_owned(), value }];
            let websocket = random.once_in(3).then(|| random.once_in(2));
            (
                random.once_in(2),
                L7Section::Http(vec![HttpMatch { headers, websocket, ..HttpMatch::default() }]),
            )
        };
        let sections: Vec<(bool, L7Section)> = (0..3).map(|_| header()).collect();
        let asked: Vec<Asked<'_>> = sections.iter().map(|(deny, section)| (*deny, section)).collect();
        let kinds = of_sections(&asked, false).unwrap();
        let known: BTreeSet<Vec<bool>> =
            kinds.iter().map(|kind| said(&asked, kind.request.as_ref())).collect();
        for _ in 0..100 {
            let values = ["a", "ab", "b", "c", "", "a,b", "a, b", "c,b", "b,c", "abc,a", "c,a,b"];
            let mut headers: Vec<(String, String)> = (0..random.below(4))
                .map(|_| {
                    (random.pick(&["x-role", "X_Role", "other"]).to_owned(), random.pick(&values).to_owned())
                })
                .collect();
            if random.once_in(2) {
                let value = random.pick(&["WebSocket", "h2c", "h2c, websocket"]);
                headers.push(("Upgrade".to_owned(), value.to_owned()));
            }
            let http = HttpQuestion { method: "GET".into(), target: "/".into(), host: None, headers };
            let found = said(&asked, Some(&http.clone().into()));
            assert!(known.contains(&found), "seed {seed}: {sections:#?} {http:?}");
        }
    }
}

#[test]
fn paths_with_empty_segments_are_told_apart_in_both_forms_at_once() {
    let templates = ["/", "/a", "/a/", "/a/b", "/{x}/b", "/a/**", "/a/b/**", "/**", "/{x}/**", "/a/{x}/c/**"];
    let names = ["a", "b", "c", "%61", "%62", "x", ".", "..", "", ""];
    let mut seen = 0;
    for seed in 0..300 {
        let mut random = Random(seed);
        let sections: Vec<(bool, L7Section)> = (0..1 + random.below(5))
            .map(|_| {
                let path = Some(PathTemplate::parse(random.pick(&templates)).unwrap());
                (random.once_in(2), L7Section::Http(vec![HttpMatch { path, ..HttpMatch::default() }]))
            })
            .collect();
        let asked: Vec<Asked<'_>> = sections.iter().map(|(deny, section)| (*deny, section)).collect();
        let kinds = of_sections(&asked, true).unwrap();
        let both = |path: &str| -> Vec<bool> {
            let path = UrlPath::parse(path).unwrap();
            let own = |section: &L7Section| match section {
                L7Section::Http(any) => any[0].path.clone().unwrap(),
                _ => unreachable!("only sections of HTTP are made"),
            };
            sections
                .iter()
                .flat_map(|(_, section)| {
                    [path.normal(), path.raw()].map(|text| own(section).matches_text(text))
                })
                .collect()
        };
        let targets = kinds.iter().filter_map(|kind| kind.request.as_ref()?.as_http());
        let known: BTreeSet<Vec<bool>> = targets.map(|http| both(&http.target)).collect();
        for _ in 0..200 {
            let path: String =
                (0..2 + random.below(6)).map(|_| format!("/{}", random.pick(&names))).collect();
            let spelled = path.trim_end_matches('/').contains("//");
            if !spelled || UrlPath::parse(&path).is_err() {
                continue;
            }
            seen += 1;
            assert!(known.contains(&both(&path)), "seed {seed}: {path} {sections:?}");
        }
    }
    assert!(seen > 5_000, "{seen}");
}
