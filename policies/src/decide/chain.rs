//! The index of one layer-7 chain: stage after stage until one decides.

use super::Around;
use super::by_name::{self, NamedRules};
use super::protocols::{self, Protocols};
use super::stage::StageIndex;
use crate::model::L7Section;
use crate::program::{Answer, AnswerPair, L7Chain, L7Entry, L7Stage};
use bulkhead_facts::{Effect, HostName, HttpRequest, Reason, Request};

/// Index of one chain.
#[derive(Clone, Debug)]
pub(super) struct ChainIndex {
    enforced: Vec<StageIndex>,
    shadow: Vec<StageIndex>,
    /// Likewise, for protocols other than HTTP.
    enforced_others: Vec<Protocols>,
    shadow_others: Vec<Protocols>,
    /// Answers for bytes that cannot be read.
    opaque: AnswerPair,
    pub(super) spoken: Spoken,
    /// An entry that is enforced denies.
    pub(super) denies: bool,
    /// Its rules that allow traffic to names, where nothing but names leads to it.
    named: NamedRules,
    /// Some alternative wants the frames of a WebSocket checked.
    checks_frames: bool,
}

/// The protocols that sections of a chain speak of, enforced or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the name of a section")]
pub struct Spoken {
    pub http: bool,
    pub tls: bool,
    pub dns: bool,
    pub redis: bool,
    pub postgres: bool,
    pub kafka: bool,
    /// Some alternative is meant behind a header of the PROXY protocol as well.
    pub proxied: bool,
}

impl Spoken {
    fn of(chain: &L7Chain) -> Self {
        let mut spoken = Self::default();
        let entries = chain.enforced.iter().chain(&chain.shadow).flat_map(|stage| &stage.entries);
        for section in entries.filter_map(|entry| entry.section.as_ref()) {
            let place = match section {
                L7Section::Http(_) => &mut spoken.http,
                L7Section::Tls(_) => &mut spoken.tls,
                L7Section::Dns(_) => &mut spoken.dns,
                L7Section::Redis(_) => &mut spoken.redis,
                L7Section::Postgres(_) => &mut spoken.postgres,
                L7Section::Kafka(_) => &mut spoken.kafka,
            };
            *place = true;
            spoken.proxied |= match section {
                L7Section::Http(requests) => requests.iter().any(|request| request.proxied),
                L7Section::Tls(hello) => hello.proxied,
                _ => false,
            };
        }
        spoken
    }

    /// True if they speak of the name system, and of nothing else.
    pub fn is_only_dns(self) -> bool {
        self == Self { dns: true, ..Self::default() }
    }
}

impl ChainIndex {
    /// `named` are its rules that allow traffic to names, where nothing but names leads to it.
    pub(super) fn new(chain: &L7Chain, end: AnswerPair, named: NamedRules) -> Self {
        let enforced = opaque_answer(&chain.enforced, end.enforced);
        let shadow =
            if chain.shadow.is_empty() { enforced } else { opaque_answer(&chain.shadow, end.shadow) };
        Self {
            enforced: chain.enforced.iter().map(StageIndex::new).collect(),
            shadow: chain.shadow.iter().map(StageIndex::new).collect(),
            enforced_others: chain.enforced.iter().map(Protocols::new).collect(),
            shadow_others: chain.shadow.iter().map(Protocols::new).collect(),
            opaque: AnswerPair { enforced, shadow },
            spoken: Spoken::of(chain),
            denies: chain
                .enforced
                .iter()
                .flat_map(|stage| &stage.entries)
                .any(|entry| entry.effect == Some(Effect::Deny)),
            named,
            checks_frames: checks_frames(chain),
        }
    }

    /// The pair of answers for one request.
    pub(super) fn decide(
        &self,
        chain: &L7Chain,
        end: AnswerPair,
        request: &Request<'_>,
        around: Around,
    ) -> AnswerPair {
        let pair = self.found(chain, end, request, around);
        self.named.explain(chain, pair, |stages| by_name::fault(stages, &self.named, request))
    }

    /// The pair of answers for a request of HTTP that is about no path which everybody reads alike: the host decides
    /// where nothing else is asked for.
    pub(super) fn decide_unclear(
        &self,
        chain: &L7Chain,
        end: AnswerPair,
        host: Option<&HostName>,
    ) -> AnswerPair {
        let found = |stages: &[L7Stage], end| first_unread(stages, end, |entry| by_name::hosts(entry, host));
        let enforced = found(&chain.enforced, end.enforced);
        let shadow = if chain.shadow.is_empty() { enforced } else { found(&chain.shadow, end.shadow) };
        let pair = AnswerPair { enforced, shadow };
        self.named.explain(chain, pair, |stages| by_name::unclear_fault(stages, host))
    }

    /// True if a request is allowed only where the frames of the WebSocket that it becomes are checked.
    pub(super) fn wants_frames_checked(
        &self,
        chain: &L7Chain,
        end: Answer,
        http: &HttpRequest<'_>,
        proxied: bool,
    ) -> bool {
        let allows = |unframed| {
            let around = Around { unframed, proxied };
            decide_forms(&self.enforced, &chain.enforced, end, http, around).effect == Effect::Allow
        };
        self.checks_frames && allows(false) && !allows(true)
    }

    fn found(&self, chain: &L7Chain, end: AnswerPair, request: &Request<'_>, around: Around) -> AnswerPair {
        match request {
            Request::Opaque => self.opaque,
            Request::Http(http) => {
                let enforced = decide_forms(&self.enforced, &chain.enforced, end.enforced, http, around);
                let shadow = match &self.shadow[..] {
                    [] => enforced,
                    stages => decide_forms(stages, &chain.shadow, end.shadow, http, around),
                };
                AnswerPair { enforced, shadow }
            }
            Request::Tls(_)
            | Request::Dns(_)
            | Request::Redis(_)
            | Request::Postgres(_)
            | Request::Kafka(_) => {
                let decide_other = if around.proxied { decide_proxied } else { decide_other };
                let enforced = decide_other(&self.enforced_others, &chain.enforced, end.enforced, request);
                let shadow = match &self.shadow_others[..] {
                    [] => enforced,
                    stages => decide_other(stages, &chain.shadow, end.shadow, request),
                };
                AnswerPair { enforced, shadow }
            }
        }
    }
}

fn checks_frames(chain: &L7Chain) -> bool {
    let entries = chain.enforced.iter().flat_map(|stage| &stage.entries);
    let checks = |entry: &L7Entry| match &entry.section {
        Some(L7Section::Http(requests)) => requests.iter().any(|request| request.frames_checked),
        _ => false,
    };
    entries.into_iter().any(checks)
}

/// Decides a request of a protocol other than HTTP.
fn decide_other(index: &[Protocols], stages: &[L7Stage], end: Answer, request: &Request<'_>) -> Answer {
    for (index, stage) in index.iter().zip(stages) {
        if let Some(answer) = index.first_match(stage, request).and_then(entry_answer) {
            return answer;
        }
    }
    end
}

/// The same behind a header of the PROXY protocol, where few rules mean anything.
fn decide_proxied(_: &[Protocols], stages: &[L7Stage], end: Answer, request: &Request<'_>) -> Answer {
    let takes = |entry: &&L7Entry| match (&entry.section, entry.effect) {
        (None, _) => true,
        (Some(section), Some(Effect::Deny)) => protocols::matches(section, request, true),
        (Some(section @ L7Section::Tls(hello)), _) => {
            hello.proxied && protocols::matches(section, request, false)
        }
        (Some(_), _) => false,
    };
    let first = |stage: &L7Stage| stage.entries.iter().find(takes).and_then(entry_answer);
    stages.iter().find_map(first).unwrap_or(end)
}

/// Decides on the normal form of the path and on the raw one; only what both allow is allowed.
fn decide_forms(
    index: &[StageIndex],
    stages: &[L7Stage],
    end: Answer,
    http: &HttpRequest<'_>,
    around: Around,
) -> Answer {
    let normal = decide_path(index, stages, end, (http, around), http.path.normal());
    if normal.effect == Effect::Deny || http.path.raw() == http.path.normal() {
        return normal;
    }
    decide_path(index, stages, end, (http, around), http.path.raw())
}

fn decide_path(
    index: &[StageIndex],
    stages: &[L7Stage],
    end: Answer,
    (http, around): (&HttpRequest<'_>, Around),
    path: &str,
) -> Answer {
    for (index, stage) in index.iter().zip(stages) {
        let question = index.question(http, around);
        let entry = index.first_match(&question, path).and_then(|at| stage.entries.get(at));
        if let Some(answer) = entry.and_then(entry_answer) {
            return answer;
        }
    }
    end
}

/// Bytes that no section can be decided on: a deny matches, an allow and a pass do not. They name nobody, so that a rule by
/// name matches that asks for nothing else.
fn opaque_answer(stages: &[L7Stage], end: Answer) -> Answer {
    first_unread(stages, end, |_| true)
}

/// What holds for bytes that cannot be read, or not in full; `meant` tells of the hosts of a rule by name that asks for
/// nothing else whether they are meant.
fn first_unread(stages: &[L7Stage], end: Answer, meant: impl Fn(&L7Entry) -> bool) -> Answer {
    for stage in stages {
        let always = |entry: &L7Entry| entry.section.is_none() || entry.effect == Some(Effect::Deny);
        let first = stage
            .entries
            .iter()
            .enumerate()
            .find(|(at, entry)| always(entry) || by_name::is_whole(stage, *at) && meant(entry));
        if let Some(answer) = first.and_then(|(_, entry)| entry_answer(entry)) {
            return answer;
        }
    }
    match end.reason {
        Reason::L7Mismatch => Answer { reason: Reason::ProtocolMismatch, ..end },
        _ => end,
    }
}

/// What a matching entry says; `None` for a pass.
fn entry_answer(entry: &L7Entry) -> Option<Answer> {
    let effect = entry.effect?;
    let reason = match effect {
        Effect::Allow => Reason::AllowedByRule,
        Effect::Deny => Reason::DeniedByRule,
    };
    Some(Answer { effect, rule: Some(entry.rule), reason })
}
