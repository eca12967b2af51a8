//! What a text does: classes of statements, and what it does with the names of its session.

use bulkhead_facts::PostgresStatement as Class;

/// A set of classes, and of what else a text does with what the session has by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Classes(u32);

impl Classes {
    /// `EXECUTE`: it does what was prepared.
    pub(super) const EXECUTES: Self = Self(1 << 31);
    /// `FETCH`, `MOVE`: it goes on with a cursor.
    pub(super) const FETCHES: Self = Self(1 << 30);
    /// `PREPARE`: a name stands for a statement.
    pub(super) const PREPARES: Self = Self(1 << 29);
    /// `DECLARE`: a name stands for a cursor.
    pub(super) const DECLARES: Self = Self(1 << 28);

    /// What a name stands for that stands for nothing.
    pub(super) const NOTHING: Self = Self(1 << 27);

    pub(super) fn of(class: Class) -> Self {
        Self(1 << (class as u32))
    }

    pub(super) fn does(self, what: Self) -> bool {
        self.0 & what.0 != 0
    }

    /// With all that it may do where `EXECUTE` may execute what is `prepared`, and `FETCH` may go on with any of `cursors`.
    pub(super) fn resolved(self, prepared: Self, cursors: Self) -> Self {
        let mut all = self;
        // What is executed may fetch, and the other way round.
        for _ in 0..2 {
            if all.does(Self::EXECUTES) {
                all = all.union(if prepared.is_none() { Self::of(Class::Other) } else { prepared });
            }
            if all.does(Self::FETCHES) {
                all = all.union(cursors);
            }
        }
        all
    }

    /// The server may read data of the client's for it.
    pub(super) fn may_copy(self) -> bool {
        self.contains(Class::Copy) || self.contains(Class::Other)
    }

    /// It may change settings of the session.
    pub(super) fn may_set(self) -> bool {
        [Class::Session, Class::Call, Class::Other].iter().any(|class| self.contains(*class))
    }

    /// Of no class at all.
    pub(super) fn is_none(self) -> bool {
        self.0 & 0xffff == 0
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn contains(self, class: Class) -> bool {
        self.0 & Self::of(class).0 != 0
    }

    pub(super) fn add(&mut self, class: Class) {
        *self = self.union(Self::of(class));
    }

    pub(super) fn to_vec(self) -> Vec<Class> {
        let known = Class::NAMED.into_iter().chain([Class::Other]);
        known.filter(|class| self.contains(*class)).collect()
    }
}
