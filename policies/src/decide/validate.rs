//! What a program must keep so that looking things up in it is total.
//!
//! A program arrives over the wire or from disk; nothing in it is believed until this has passed.

use crate::limits::{
    ANSWERS_MAX, BOXES_MAX, CHAIN_ENTRIES_MAX, CHAIN_TEXT_BYTES_MAX, CHAINS_MAX, CHOICE_ENDPOINTS_MAX,
    CHOICES_MAX, CLASSES_MAX, ENDPOINTS_PER_CHOICE_MAX, NAMED_CLASSES_MAX, RULES_PER_WORKLOAD_MAX, SPANS_MAX,
};
use crate::model::{HttpMatch, L7Section, TopicMatch};
use crate::program::{
    Action, AddressSpan, AnswerId, Choice, ChoiceId, Endpoint, L7Chain, L7ChainId, PortBox, Program,
    RuleIndex,
};
use bulkhead_facts::{Direction, Effect, HostPattern, L4Protocol, NamePattern};
use std::fmt;

/// Why a program is refused whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidProgram {
    /// There is no answer 0.
    NoAnswers,
    /// Answer 0, which holds where nothing matches, allows.
    OpenDefault,
    /// A box or chain names an answer that is not there.
    AnswerOutOfRange(AnswerId),
    /// A box names a chain that is not there.
    ChainOutOfRange(L7ChainId),
    /// A box names a choice that is not there, is not for TCP of egress, or lets pass what nobody picks an endpoint for.
    ChoiceOutOfPlace(ChoiceId),
    /// A choice has no endpoints, too many, or they are not in order; or one is a choice itself.
    InvalidChoice(ChoiceId),
    /// An answer or a chain names a rule that is not there.
    RuleOutOfRange(RuleIndex),
    /// Spans of addresses overlap, are reversed or not sorted.
    SpansOutOfOrder(Direction),
    /// Boxes overlap, are reversed or not sorted.
    BoxesOutOfOrder(Direction),
    /// Classes of addresses by name are not sorted.
    NamedOutOfOrder(Direction),
    /// More of something than its limit allows.
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

impl fmt::Display for InvalidProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswers => f.write_str("program has no answer 0 for what nothing matches"),
            Self::OpenDefault => {
                f.write_str("answer 0 of the program allows: what nothing matches must be denied")
            }
            Self::AnswerOutOfRange(id) => write!(f, "program names answer {} that it does not hold", id.0),
            Self::ChainOutOfRange(id) => {
                write!(f, "program names layer-7 chain {} that it does not hold", id.0)
            }
            Self::ChoiceOutOfPlace(id) => {
                write!(
                    f,
                    "program names choice {} of endpoints that it does not hold, or in the wrong place",
                    id.0
                )
            }
            Self::InvalidChoice(id) => {
                write!(
                    f,
                    "choice {} of the program has no endpoints, or not in order, or another choice",
                    id.0
                )
            }
            Self::RuleOutOfRange(id) => write!(f, "program names rule {} that it does not hold", id.0),
            Self::SpansOutOfOrder(direction) => {
                write!(f, "{direction} address spans overlap or are not sorted")
            }
            Self::BoxesOutOfOrder(direction) => write!(f, "{direction} port boxes overlap or are not sorted"),
            Self::NamedOutOfOrder(direction) => {
                write!(f, "{direction} classes of addresses by name are not sorted")
            }
            Self::TooMany { what, limit } => write!(f, "program holds more {what} than the limit of {limit}"),
        }
    }
}

impl std::error::Error for InvalidProgram {}

/// Checks a whole program.
pub(super) fn validate(program: &Program) -> Result<(), InvalidProgram> {
    at_most("rules", program.rules.len(), RULES_PER_WORKLOAD_MAX)?;
    at_most("answers", program.answers.len(), ANSWERS_MAX)?;
    at_most("layer-7 chains", program.l7_chains.len(), CHAINS_MAX)?;
    validate_answers(program)?;
    program.l7_chains.iter().try_for_each(|chain| validate_chain(program, chain))?;
    validate_choices(program)?;
    at_most("rules with names", program.names.len(), RULES_PER_WORKLOAD_MAX)?;
    program.names.iter().try_for_each(|named| rule_exists(program, named.rule))?;
    Direction::BOTH.into_iter().try_for_each(|direction| validate_direction(program, direction))
}

fn validate_answers(program: &Program) -> Result<(), InvalidProgram> {
    let nothing_matched = program.answers.first().ok_or(InvalidProgram::NoAnswers)?;
    if nothing_matched.enforced.effect == Effect::Allow {
        return Err(InvalidProgram::OpenDefault);
    }
    for pair in &program.answers {
        for rule in [pair.enforced.rule, pair.shadow.rule].into_iter().flatten() {
            rule_exists(program, rule)?;
        }
    }
    Ok(())
}

fn validate_chain(program: &Program, chain: &L7Chain) -> Result<(), InvalidProgram> {
    answer_exists(program, chain.end)?;
    let entries = || chain.enforced.iter().chain(&chain.shadow).flat_map(|stage| &stage.entries);
    at_most("entries in a chain", entries().count(), CHAIN_ENTRIES_MAX)?;
    let texts = entries().filter_map(|entry| entry.section.as_ref()).map(section_bytes);
    at_most("bytes of text in a chain", texts.sum(), CHAIN_TEXT_BYTES_MAX)?;
    entries().try_for_each(|entry| rule_exists(program, entry.rule))
}

/// Bytes of text in a section.
fn section_bytes(section: &L7Section) -> usize {
    let all = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
    match section {
        L7Section::Http(requests) => requests.iter().map(request_bytes).sum(),
        L7Section::Tls(hello) => {
            hello.sni.iter().map(NamePattern::text_bytes).sum::<usize>() + all(&hello.alpn)
        }
        L7Section::Dns(questions) => {
            questions.iter().flat_map(|dns| &dns.names).map(NamePattern::text_bytes).sum()
        }
        L7Section::Redis(commands) => commands
            .iter()
            .map(|redis| all(&redis.commands) + redis.key_prefix.as_ref().map_or(0, String::len))
            .sum(),
        L7Section::Postgres(messages) => {
            messages.iter().map(|postgres| all(&postgres.users) + all(&postgres.databases)).sum()
        }
        L7Section::Kafka(requests) => {
            let topics = requests.iter().flat_map(|kafka| &kafka.topics);
            let bytes = |topic: &TopicMatch| match topic {
                TopicMatch::Exact(text) | TopicMatch::Prefix(text) => text.len(),
            };
            topics.map(bytes).sum()
        }
    }
}

/// Bytes of what the index keeps of a request.
fn request_bytes(http: &HttpMatch) -> usize {
    let path = http.path.as_ref().map_or(0, |path| path.as_str().len());
    let hosts = http.hosts.iter().map(|host| match host {
        HostPattern::Exact(name) | HostPattern::Below(name) => name.as_str().len(),
    });
    path + hosts.sum::<usize>() + http.methods.iter().map(String::len).sum::<usize>()
}

fn validate_direction(program: &Program, direction: Direction) -> Result<(), InvalidProgram> {
    let tables = program.direction(direction);
    at_most("address spans", tables.v4.len().max(tables.v6.len()), SPANS_MAX)?;
    at_most("port boxes", tables.boxes.len(), BOXES_MAX)?;
    if !spans_in_order(&tables.v4) || !spans_in_order(&tables.v6) {
        return Err(InvalidProgram::SpansOutOfOrder(direction));
    }
    if !boxes_in_order(&tables.boxes) {
        return Err(InvalidProgram::BoxesOutOfOrder(direction));
    }
    let classes = tables.v4.iter().map(|s| s.class).chain(tables.v6.iter().map(|s| s.class));
    let highest = classes.chain(tables.boxes.iter().map(|b| b.class));
    let highest = highest.chain(tables.named.iter().map(|named| named.class)).max();
    at_most("classes of addresses by name", tables.named.len(), 2 * NAMED_CLASSES_MAX)?;
    if !tables.named.is_sorted() {
        return Err(InvalidProgram::NamedOutOfOrder(direction));
    }
    tables.named.iter().flat_map(|named| &named.rules).try_for_each(|rule| rule_exists(program, *rule))?;
    at_most("peer classes", highest.map_or(0, |class| class.0 as usize), CLASSES_MAX)?;
    tables.boxes.iter().try_for_each(|b| match b.action {
        Action::Choose { choice, otherwise } => {
            answer_exists(program, otherwise)?;
            let denies = program.answers[usize::from(otherwise.0)].enforced.effect == Effect::Deny;
            let tcp = (b.protocol_first, b.protocol_last) == (L4Protocol::TCP, L4Protocol::TCP);
            let exists = program.choices.get(choice.0 as usize).is_some();
            let in_place = denies && tcp && exists && direction == Direction::Egress;
            if in_place { Ok(()) } else { Err(InvalidProgram::ChoiceOutOfPlace(choice)) }
        }
        Action::Answer(_) | Action::Learn(_) | Action::Inspect { .. } => action_exists(program, b.action),
    })
}

fn validate_choices(program: &Program) -> Result<(), InvalidProgram> {
    at_most("Services with endpoints to choose from", program.choices.len(), CHOICES_MAX)?;
    let all = program.choices.iter().map(|choice| choice.endpoints.len()).sum();
    at_most("endpoints of Services to choose from", all, CHOICE_ENDPOINTS_MAX)?;
    (0u32..).map(ChoiceId).zip(&program.choices).try_for_each(|(id, choice)| {
        if !is_in_order(choice) {
            return Err(InvalidProgram::InvalidChoice(id));
        }
        choice.endpoints.iter().try_for_each(|endpoint| action_exists(program, endpoint.action))
    })
}

fn is_in_order(Choice { endpoints }: &Choice) -> bool {
    let key = |endpoint: &Endpoint| (endpoint.address, endpoint.port);
    let chooses = |endpoint: &Endpoint| matches!(endpoint.action, Action::Choose { .. });
    (1..=ENDPOINTS_PER_CHOICE_MAX).contains(&endpoints.len())
        && endpoints.windows(2).all(|pair| key(&pair[0]) < key(&pair[1]))
        && !endpoints
            .iter()
            .any(|endpoint| chooses(endpoint) || endpoint.address != endpoint.address.to_canonical())
}

/// What an action names exists; choices are checked where they stand.
fn action_exists(program: &Program, action: Action) -> Result<(), InvalidProgram> {
    match action {
        Action::Answer(id) | Action::Learn(id) => answer_exists(program, id),
        Action::Inspect { chain, opaque } => {
            answer_exists(program, opaque)?;
            program.l7_chains.get(chain.0 as usize).map(|_| ()).ok_or(InvalidProgram::ChainOutOfRange(chain))
        }
        Action::Choose { choice, .. } => Err(InvalidProgram::ChoiceOutOfPlace(choice)),
    }
}

fn spans_in_order<A: Ord + Copy>(spans: &[AddressSpan<A>]) -> bool {
    spans.iter().all(|span| span.first <= span.last) && spans.windows(2).all(|w| w[0].last < w[1].first)
}

/// Within a class, protocol ranges are equal or disjoint, and ports of equal ones disjoint: so one binary
/// search by (class, protocol, port) finds the only box there can be.
fn boxes_in_order(boxes: &[PortBox]) -> bool {
    let follows = |a: &PortBox, b: &PortBox| {
        a.class < b.class
            || a.class == b.class
                && (a.protocol_last < b.protocol_first
                    || (a.protocol_first, a.protocol_last) == (b.protocol_first, b.protocol_last)
                        && a.ports.last() < b.ports.first())
    };
    boxes.iter().all(|b| b.protocol_first <= b.protocol_last)
        && boxes.windows(2).all(|w| follows(&w[0], &w[1]))
}

fn answer_exists(program: &Program, id: AnswerId) -> Result<(), InvalidProgram> {
    program.answers.get(usize::from(id.0)).map(|_| ()).ok_or(InvalidProgram::AnswerOutOfRange(id))
}

fn rule_exists(program: &Program, rule: RuleIndex) -> Result<(), InvalidProgram> {
    program.rules.get(rule.0 as usize).map(|_| ()).ok_or(InvalidProgram::RuleOutOfRange(rule))
}

fn at_most(what: &'static str, count: usize, limit: usize) -> Result<(), InvalidProgram> {
    if count > limit { Err(InvalidProgram::TooMany { what, limit }) } else { Ok(()) }
}
