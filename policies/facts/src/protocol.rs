//! Closed vocabularies of protocols that rules and inspectors share.

use std::fmt;

/// A version of TLS; versions before 1.0 are not spoken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.0 (RFC 2246).
    V1_0,
    /// 1.1 (RFC 4346).
    V1_1,
    /// 1.2 (RFC 5246).
    V1_2,
    /// 1.3 (RFC 8446).
    V1_3,
}

impl TlsVersion {
    /// All, ascending.
    pub const ALL: [Self; 4] = [Self::V1_0, Self::V1_1, Self::V1_2, Self::V1_3];

    /// As documents write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_0 => "1.0",
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Classes of SQL statements, by what they can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PostgresStatement {
    /// Reads: `SELECT`, `VALUES`, `TABLE`, `FETCH` and the like.
    Select,
    /// `INSERT`.
    Insert,
    /// `UPDATE`.
    Update,
    /// `DELETE`.
    Delete,
    /// `MERGE`.
    Merge,
    /// `TRUNCATE`.
    Truncate,
    /// `COPY`, either way.
    Copy,
    /// `CALL`, `DO`, and calls by the function protocol.
    Call,
    /// `CREATE`, `ALTER`, `DROP` and the like.
    Define,
    /// `GRANT`, `REVOKE`, `REASSIGN` and the like.
    Grant,
    /// `BEGIN`, `COMMIT`, `ROLLBACK`, `SAVEPOINT` and the like.
    Transaction,
    /// `SET`, `SHOW`, `RESET`, `DISCARD` and the like.
    Session,
    /// What is none of these or cannot be told: no allow that names classes matches it, every deny does.
    Other,
}

impl PostgresStatement {
    /// Those that a document can name.
    pub const NAMED: [Self; 12] = [
        Self::Select,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Merge,
        Self::Truncate,
        Self::Copy,
        Self::Call,
        Self::Define,
        Self::Grant,
        Self::Transaction,
        Self::Session,
    ];

    /// As documents write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Merge => "merge",
            Self::Truncate => "truncate",
            Self::Copy => "copy",
            Self::Call => "call",
            Self::Define => "define",
            Self::Grant => "grant",
            Self::Transaction => "transaction",
            Self::Session => "session",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for PostgresStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
