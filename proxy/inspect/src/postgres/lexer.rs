//! Tokens of SQL as PostgreSQL reads them (documentation, section 4.1), as far as it takes to see where statements, strings
//! and comments end.
//!
//! What the server's settings decide is the caller's to ask both ways: whether a backslash escapes in a plain string. In some
//! encodings of clients (Shift JIS, Big5, GBK and their like) the second byte of a character may look like a symbol of ASCII.

/// One token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A keyword or a name without quotes.
    Word(&'a [u8]),
    /// A name in double quotes, as it stands between them.
    Quoted(&'a [u8]),
    /// A string, a number, a parameter.
    Value,
    /// Anything else, byte by byte.
    Symbol(u8),
}

/// The bytes do not read as tokens, or not in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// Reads tokens.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    rest: &'a [u8],
    /// A backslash escapes in plain strings too (`standard_conforming_strings = off`).
    escapes: bool,
    /// What looks like ASCII is ASCII.
    plain: bool,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a [u8], escapes: bool, plain: bool) -> Self {
        Self { rest: text, escapes, plain }
    }

    /// The next token; `None` at the end.
    pub(super) fn token(&mut self) -> Result<Option<Token<'a>>, Unreadable> {
        self.skip_blank()?;
        let Some(first) = self.rest.first().copied() else { return Ok(None) };
        let token = match first {
            b'\'' => self.string(self.escapes)?,
            b'"' => self.quoted()?,
            b'$' => self.dollar()?,
            b'0'..=b'9' => {
                self.while_true(|byte| byte.is_ascii_digit());
                Token::Value
            }
            first if begins_word(first) => self.word()?,
            symbol => {
                self.advance(1);
                Token::Symbol(symbol)
            }
        };
        Ok(Some(token))
    }

    fn advance(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    fn while_true(&mut self, holds: impl Fn(u8) -> bool) -> &'a [u8] {
        let count = self.rest.iter().take_while(|byte| holds(**byte)).count();
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        taken
    }

    /// White space and comments; those between `/*` and `*/` nest.
    fn skip_blank(&mut self) -> Result<(), Unreadable> {
        loop {
            match self.rest {
                [b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, ..] => self.advance(1),
                [b'-', b'-', ..] => {
                    self.while_true(|byte| byte != b'\n' && byte != b'\r');
                }
                [b'/', b'*', ..] => self.skip_comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn skip_comment(&mut self) -> Result<(), Unreadable> {
        let mut depth = 0usize;
        loop {
            match self.rest {
                [] => return Err(Unreadable),
                [b'/', b'*', ..] => {
                    depth += 1;
                    self.advance(2);
                }
                [b'*', b'/', ..] => {
                    depth -= 1;
                    self.advance(2);
                    if depth == 0 {
                        return Ok(());
                    }
                }
                _ => self.advance(1),
            }
        }
    }

    /// A word, or the string or name that a prefix belongs to: `E''`, `U&""` and the like.
    fn word(&mut self) -> Result<Token<'a>, Unreadable> {
        let word = self.while_true(|byte| begins_word(byte) || byte.is_ascii_digit() || byte == b'$');
        if let (Some(0x80..), Some(b'@' | b'['..=b'^' | b'`' | b'{'..=b'~')) =
            (word.last(), self.rest.first())
            && !self.plain
        {
            // Where the word ends, and whether what follows in it quotes, cannot be told.
            return Err(Unreadable);
        }
        let prefix = word.first().filter(|_| word.len() == 1).map(u8::to_ascii_lowercase);
        match (prefix, self.rest) {
            (Some(b'e'), [b'\'', ..]) => self.string(true),
            (Some(b'b' | b'x'), [b'\'', ..]) => self.string(false),
            (Some(b'n'), [b'\'', ..]) => self.string(self.escapes),
            (Some(b'u'), [b'&', b'\'', ..]) => {
                self.advance(1);
                self.string(false)
            }
            // A name that is spelled by escapes is none that we could compare.
            (Some(b'u'), [b'&', b'"', ..]) => Err(Unreadable),
            _ => Ok(Token::Word(word)),
        }
    }

    /// A string with all that goes on with it, which is read as it is: behind an end of line, another quote.
    fn string(&mut self, escapes: bool) -> Result<Token<'a>, Unreadable> {
        let before = self.rest;
        self.part(escapes)?;
        while self.skip_to_next_part() {
            self.part(escapes)?;
        }
        // Perhaps a backslash is the second byte of a character.
        let text = before.get(..before.len() - self.rest.len()).unwrap_or_default();
        let doubtful =
            escapes && !self.plain && text.windows(2).any(|pair| matches!(pair, [0x80..=0xff, b'\\']));
        if doubtful { Err(Unreadable) } else { Ok(Token::Value) }
    }

    /// True where the string that ended goes on; then its next quote is what follows.
    fn skip_to_next_part(&mut self) -> bool {
        let before = self.rest;
        let mut line_ended = false;
        loop {
            match self.rest {
                [b'\n' | b'\r', ..] => {
                    line_ended = true;
                    self.advance(1);
                }
                [b' ' | b'\t' | 0x0b | 0x0c, ..] => self.advance(1),
                [b'-', b'-', ..] => {
                    self.while_true(|byte| byte != b'\n' && byte != b'\r');
                }
                [b'\'', ..] if line_ended => return true,
                _ => {
                    self.rest = before;
                    return false;
                }
            }
        }
    }

    /// What stands between two quotes.
    fn part(&mut self, escapes: bool) -> Result<(), Unreadable> {
        self.advance(1);
        loop {
            match self.rest {
                [] => return Err(Unreadable),
                [b'\'', b'\'', ..] => self.advance(2),
                [b'\\', _, ..] if escapes => self.advance(2),
                [b'\'', ..] => {
                    self.advance(1);
                    return Ok(());
                }
                _ => self.advance(1),
            }
        }
    }

    fn quoted(&mut self) -> Result<Token<'a>, Unreadable> {
        self.advance(1);
        let start = self.rest;
        loop {
            match self.rest {
                [] => return Err(Unreadable),
                [b'"', b'"', ..] => self.advance(2),
                [b'"', ..] => {
                    let name = start.get(..start.len() - self.rest.len()).unwrap_or_default();
                    self.advance(1);
                    return Ok(Token::Quoted(name));
                }
                _ => self.advance(1),
            }
        }
    }

    /// `$1`, `$$ ... $$`, `$tag$ ... $tag$`.
    fn dollar(&mut self) -> Result<Token<'a>, Unreadable> {
        let tag = self.rest.iter().skip(1).take_while(|byte| begins_word(**byte) || byte.is_ascii_digit());
        let length = 1 + tag.count();
        let is_parameter = self.rest.get(1).is_some_and(u8::is_ascii_digit);
        if is_parameter || self.rest.get(length) != Some(&b'$') {
            self.advance(1);
            return Ok(if is_parameter { Token::Value } else { Token::Symbol(b'$') });
        }
        let tag = self.rest.get(..=length).unwrap_or_default();
        self.advance(length + 1);
        let end = memchr::memmem::find(self.rest, tag).ok_or(Unreadable)?;
        self.advance(end + tag.len());
        Ok(Token::Value)
    }
}

fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}
