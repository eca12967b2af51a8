//! What requests of protocols other than HTTP are called in reports: made once, and shared by those that are alike.
//!
//! A connection says the same few things again and again, so it keeps the signatures of the last ones: what was said before
//! costs a comparison and no memory. As much of a request as rules can name, and nothing else: no value, no key in full, no
//! text of a statement.

use super::limits::{KIND_TEXT_BYTES_MAX, KINDS_KEPT_MAX};
use bulkhead_api::limits::FLOW_TOPICS_MAX;
use bulkhead_api::{KafkaSignature, PostgresSignature, RedisSignature, RequestSignature, TlsSignature};
use bulkhead_inspect::{Question, Subject, signature};
use std::sync::Arc;

/// The signatures of the last requests of a connection.
#[derive(Default)]
pub(super) struct Kinds {
    known: Vec<Arc<RequestSignature>>,
    /// The one that gives way to the next new one.
    oldest: usize,
}

impl Kinds {
    /// What a request is called; `None` for HTTP, and for what says nothing that a rule could name.
    pub(super) fn of(&mut self, question: &Question<'_>) -> Option<Arc<RequestSignature>> {
        if let Some(known) = self.known.iter().find(|known| is_of(known, &question.subject)) {
            return Some(Arc::clone(known));
        }
        let made = Arc::new(of(&question.subject)?);
        match self.known.get_mut(self.oldest) {
            Some(oldest) => *oldest = Arc::clone(&made),
            None => self.known.push(Arc::clone(&made)),
        }
        self.oldest = (self.oldest + 1) % KINDS_KEPT_MAX;
        Some(made)
    }
}

/// True if that is what the subject is called.
fn is_of(known: &RequestSignature, subject: &Subject<'_>) -> bool {
    match (known, subject) {
        (RequestSignature::Redis(known), Subject::Redis(command)) => {
            known.database == command.database
                && known.command.eq_ignore_ascii_case(command.name)
                && known.key_prefix.as_deref() == signature::key_prefix(&command.keys)
        }
        (RequestSignature::Postgres(known), Subject::Postgres(message)) => {
            known.statements == message.classes
                && known.user == message.user
                && known.database == message.database
        }
        (RequestSignature::Kafka(known), Subject::Kafka(call)) => {
            let is_known =
                |topic: &&str| known.topics.binary_search_by(|own| own.as_str().cmp(topic)).is_ok();
            known.api == call.api
                && known.topics.len() == call.topics.len()
                && call.topics.iter().all(is_known)
        }
        // A connection says hello once.
        (_, _) => false,
    }
}

fn of(subject: &Subject<'_>) -> Option<RequestSignature> {
    let all_short = |texts: &[&str]| texts.iter().all(|text| text.len() <= KIND_TEXT_BYTES_MAX);
    let told = match subject {
        Subject::Http(_) => return None,
        Subject::Tls(hello) => {
            let name = hello.server_name.as_ref().map(|name| signature::name(name.as_str()).into_owned());
            let (lowest, encrypted) = (hello.lowest, hello.encrypted);
            RequestSignature::Tls(TlsSignature { server_name: name, lowest, encrypted })
        }
        Subject::Redis(command) if all_short(&[command.name]) => RequestSignature::Redis(RedisSignature {
            command: command.name.to_ascii_lowercase(),
            key_prefix: signature::key_prefix(&command.keys).map(str::to_owned),
            database: command.database,
        }),
        // The request to cancel another one: it names nobody.
        Subject::Postgres(message) if message.user.is_empty() => return None,
        Subject::Postgres(message) if all_short(&[message.user, message.database]) => {
            RequestSignature::Postgres(PostgresSignature {
                user: message.user.to_owned(),
                database: message.database.to_owned(),
                statements: message.classes.clone(),
            })
        }
        Subject::Kafka(call) if call.topics.len() <= FLOW_TOPICS_MAX && all_short(&call.topics) => {
            let mut topics: Vec<String> = call.topics.iter().map(|topic| (*topic).to_owned()).collect();
            topics.sort_unstable();
            topics.dedup();
            RequestSignature::Kafka(KafkaSignature { api: call.api, topics })
        }
        Subject::Redis(_) | Subject::Postgres(_) | Subject::Kafka(_) => RequestSignature::Others,
    };
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_facts::PostgresStatement;
    use bulkhead_inspect::{Call, Command, Statements};

    fn question(subject: Subject<'_>) -> Question<'_> {
        Question { bytes: &[], exchange: 0, lasting: false, subject }
    }

    fn redis<'a>(name: &'a str, key: &'a str) -> Question<'a> {
        question(Subject::Redis(Command { name, keys: vec![key.as_bytes()], database: Some(0) }))
    }

    fn postgres(user: &str, classes: Vec<PostgresStatement>) -> Question<'_> {
        question(Subject::Postgres(Statements { user, database: "orders", classes }))
    }

    fn kafka<'a>(api: u16, topics: Vec<&'a str>) -> Question<'a> {
        question(Subject::Kafka(Call { api, topics, partial: false }))
    }

    #[test]
    fn what_was_said_before_is_not_made_again() {
        let mut kinds = Kinds::default();
        let (select, insert) = (PostgresStatement::Select, PostgresStatement::Insert);
        let first = |kinds: &mut Kinds| {
            [
                kinds.of(&redis("GET", "session:1")),
                kinds.of(&postgres("shop", vec![select])),
                kinds.of(&postgres("shop", vec![select, insert])),
                kinds.of(&kafka(0, vec!["b", "a"])),
            ]
            .map(Option::unwrap)
        };
        let before = first(&mut kinds);
        for (again, before) in first(&mut kinds).iter().zip(&before) {
            assert!(Arc::ptr_eq(again, before), "{again:?}");
        }
        let same = kinds.of(&redis("get", "session:2")).unwrap();
        assert!(Arc::ptr_eq(&same, &before[0]), "another value of the same kind");
        for other in [redis("get", "cart:2"), redis("set", "session:1"), kafka(1, vec!["b", "a"])] {
            let other = kinds.of(&other).unwrap();
            assert!(!before.contains(&other), "{other:?}");
        }
    }

    #[test]
    fn no_more_than_the_limit_is_kept_and_the_oldest_gives_way() {
        let mut kinds = Kinds::default();
        let names: Vec<String> = (0..KINDS_KEPT_MAX + 1).map(|number| format!("c{number}")).collect();
        let made: Vec<_> = names.iter().map(|name| kinds.of(&redis(name, "k")).unwrap()).collect();
        assert_eq!(kinds.known.len(), KINDS_KEPT_MAX);
        let last = kinds.of(&redis(&names[KINDS_KEPT_MAX], "k")).unwrap();
        assert!(Arc::ptr_eq(&last, &made[KINDS_KEPT_MAX]));
        let first = kinds.of(&redis(&names[0], "k")).unwrap();
        assert!(!Arc::ptr_eq(&first, &made[0]) && first == made[0]);
    }

    #[test]
    fn no_value_and_no_key_in_full_is_told() {
        let mut kinds = Kinds::default();
        let told = kinds.of(&redis("SET", "token:s3cr3t")).unwrap();
        let expected =
            RedisSignature { command: "set".into(), key_prefix: Some("token:".into()), database: Some(0) };
        assert_eq!(*told, RequestSignature::Redis(expected));
        assert!(!format!("{:?}", kinds.of(&redis("GET", "s3cr3t"))).contains("s3cr3t"));
    }

    #[test]
    fn what_is_too_long_or_names_too_much_is_not_told_apart() {
        let mut kinds = Kinds::default();
        let (long, many) = ("x".repeat(KIND_TEXT_BYTES_MAX + 1), vec!["t"; FLOW_TOPICS_MAX + 1]);
        for question in [redis(&long, "k"), postgres(&long, vec![]), kafka(0, vec![&long]), kafka(0, many)] {
            assert_eq!(kinds.of(&question).as_deref(), Some(&RequestSignature::Others));
        }
        assert_eq!(kinds.of(&postgres("", vec![])), None, "a request to cancel");
    }
}
