//! Selector expressions of Calico as alternatives of requirements.
//!
//! `==`, `!=`, `in`, `not in`, `has()`, `all()`, `&&`, `||`, parentheses, and `!` before a single requirement. `contains`, `starts
//! with`, `ends with` and `global()` have no counterpart.

use crate::model::{Operator, Requirement};

/// Alternatives that one expression may come to. More: not read.
const ALTERNATIVES_MAX: usize = 16;
/// Parentheses inside of each other. Deeper: not read.
const DEPTH_MAX: usize = 32;

/// Alternatives, each of requirements that hold together.
pub(super) type Alternatives = Vec<Vec<Requirement>>;

/// Reads an expression; `None` if it cannot be expressed.
pub(super) fn parse(text: &str) -> Option<Alternatives> {
    let tokens = tokens(text)?;
    if tokens.is_empty() {
        return Some(vec![Vec::new()]);
    }
    let mut parser = Parser { tokens: &tokens, at: 0, depth: 0 };
    let found = parser.either()?;
    (parser.at == tokens.len()).then_some(found)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Value(String),
    Sign(&'static str),
}

const SIGNS: [&str; 10] = ["==", "!=", "&&", "||", "(", ")", "{", "}", ",", "!"];

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            found.push(Token::Sign(sign));
            rest = &rest[sign.len()..];
        } else if first == '\'' || first == '"' {
            let (value, after) = rest[1..].split_once(first)?;
            found.push(Token::Value(value.to_owned()));
            rest = after;
        } else {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_./-".contains(c)));
            let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
            if word.is_empty() {
                return None;
            }
            found.push(Token::Word(word.to_owned()));
            rest = after;
        }
        rest = rest.trim_start();
    }
    Some(found)
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn either(&mut self) -> Option<Alternatives> {
        let mut found = self.both()?;
        while self.sign("||") {
            found.extend(self.both()?);
        }
        (found.len() <= ALTERNATIVES_MAX).then_some(found)
    }

    fn both(&mut self) -> Option<Alternatives> {
        let mut found = self.one()?;
        while self.sign("&&") {
            let right = self.one()?;
            let pairs = found.iter().flat_map(|a| right.iter().map(move |b| [&a[..], &b[..]].concat()));
            found = pairs.take(ALTERNATIVES_MAX + 1).collect();
        }
        (found.len() <= ALTERNATIVES_MAX).then_some(found)
    }

    fn one(&mut self) -> Option<Alternatives> {
        if self.sign("!") {
            let inner = self.one()?;
            return match &inner[..] {
                [alone] => match &alone[..] {
                    [requirement] => Some(vec![vec![negated(requirement)]]),
                    _ => None,
                },
                _ => None,
            };
        }
        if self.sign("(") {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return None;
            }
            let inner = self.either()?;
            self.depth -= 1;
            return self.sign(")").then_some(inner);
        }
        let word = self.word()?;
        match word.as_str() {
            "all" => (self.sign("(") && self.sign(")")).then(|| vec![Vec::new()]),
            "has" if self.sign("(") => {
                let key = self.word()?;
                self.sign(")").then(|| vec![vec![Requirement { key, operator: Operator::Exists }]])
            }
            _ => self.comparison(word),
        }
    }

    fn comparison(&mut self, key: String) -> Option<Alternatives> {
        let operator = if self.sign("==") {
            Operator::In(vec![self.value()?])
        } else if self.sign("!=") {
            Operator::NotIn(vec![self.value()?])
        } else {
            match self.word()?.as_str() {
                "in" => Operator::In(self.values()?),
                "not" if self.word()? == "in" => Operator::NotIn(self.values()?),
                _ => return None,
            }
        };
        Some(vec![vec![Requirement { key, operator }]])
    }

    fn values(&mut self) -> Option<Vec<String>> {
        let mut found = Vec::new();
        if !self.sign("{") {
            return None;
        }
        loop {
            found.push(self.value()?);
            if self.sign("}") {
                found.sort();
                found.dedup();
                return Some(found);
            }
            if !self.sign(",") {
                return None;
            }
        }
    }

    fn sign(&mut self, sign: &'static str) -> bool {
        let hit = self.tokens.get(self.at) == Some(&Token::Sign(sign));
        self.at += usize::from(hit);
        hit
    }

    fn word(&mut self) -> Option<String> {
        let Token::Word(word) = self.tokens.get(self.at)? else { return None };
        self.at += 1;
        Some(word.clone())
    }

    fn value(&mut self) -> Option<String> {
        let Token::Value(value) = self.tokens.get(self.at)? else { return None };
        self.at += 1;
        Some(value.clone())
    }
}

fn negated(requirement: &Requirement) -> Requirement {
    let operator = match requirement.operator.clone() {
        Operator::In(values) => Operator::NotIn(values),
        Operator::NotIn(values) => Operator::In(values),
        Operator::Exists => Operator::DoesNotExist,
        Operator::DoesNotExist => Operator::Exists,
    };
    Requirement { key: requirement.key.clone(), operator }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let Some(found) = parse(text) else { return "none".to_owned() };
        let alternative = |all: &Vec<Requirement>| {
            all.iter().map(|r| format!("{} {:?}", r.key, r.operator)).collect::<Vec<_>>().join(" & ")
        };
        found.iter().map(alternative).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn expressions_are_read_as_alternatives() {
        for (text, expected) in [
            ("", ""),
            ("all()", ""),
            ("app == 'web'", "app In([\"web\"])"),
            ("app != \"web\" && has(tier)", "app NotIn([\"web\"]) & tier Exists"),
            ("!has(tier)", "tier DoesNotExist"),
            ("!(app == 'a')", "app NotIn([\"a\"])"),
            ("app in {'b', 'a'} || x not in {'c'}", "app In([\"a\", \"b\"]) | x NotIn([\"c\"])"),
            (
                "(a == '1' || b == '2') && c == '3'",
                "a In([\"1\"]) & c In([\"3\"]) | b In([\"2\"]) & c In([\"3\"])",
            ),
            ("!(a == '1' || b == '2')", "none"),
            ("app contains 'w'", "none"),
            ("global()", "none"),
            ("app == 'web' junk", "none"),
            ("app == 'web", "none"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
