//! Collections, which of their modes holds on a day, and for which of their pods.

use super::{Share, Subject};
use bulkhead_facts::Mode;
use std::fmt;

/// What a team owns and how strictly it is held.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Collection {
    /// Name.
    pub name: String,
    /// What it covers.
    pub covers: Subject,
    /// Who may change and approve, as `user:NAME` or `group:NAME`.
    pub owners: Vec<String>,
    /// What holds where no policy selects a workload.
    pub default: CollectionDefault,
    /// How strictly the namespace tier and the default are held, before the first step of the schedule.
    pub mode: Mode,
    /// The pods that `enforce` reaches; the others are audited. All, unless a step of the schedule says otherwise.
    pub canary: Share,
    /// Which modes follow, ascending by day, one step a day.
    pub schedule: Vec<ScheduleStep>,
    /// Times in which the mode stays as it was the day before.
    pub freeze: Vec<Freeze>,
    /// Which built-in rules hold.
    pub infrastructure: Infrastructure,
    /// How much an incident in it weighs.
    pub criticality: Criticality,
}

impl Collection {
    /// The step that holds on a day: the last one that has begun, `None` before the first. One that falls into a freeze
    /// waits until the day after its end.
    pub fn step_on(&self, day: Date) -> Option<&ScheduleStep> {
        let day = self.last_change_before(day)?;
        self.schedule.iter().take_while(|step| step.from <= day).last()
    }

    /// The collection as it is held on a day, with nothing left to come.
    pub fn on(&self, day: Date) -> Self {
        let (mode, canary) =
            self.step_on(day).map_or((self.mode, self.canary), |step| (step.mode, step.canary));
        Self { mode, canary, schedule: Vec::new(), freeze: Vec::new(), ..self.clone() }
    }

    /// The mode that one of its pods is held in.
    pub fn mode_of(&self, pod_uid: &str) -> Mode {
        match self.mode {
            Mode::Enforce if !self.canary.holds(pod_uid) => Mode::Audit,
            mode => mode,
        }
    }

    /// The last day up to this one on which changes are let in; `None` where a freeze reaches back to the first day.
    fn last_change_before(&self, mut day: Date) -> Option<Date> {
        // Each round leaves one freeze behind for good, since the day only falls.
        while let Some(freeze) = self.freeze.iter().find(|freeze| freeze.from <= day && day <= freeze.to) {
            day = freeze.from.previous()?;
        }
        Some(day)
    }
}

/// From when a mode holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScheduleStep {
    /// First day.
    pub from: Date,
    /// The mode.
    pub mode: Mode,
    /// The pods that `enforce` reaches; the others are audited.
    pub canary: Share,
}

/// A time without changes of mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Freeze {
    /// First day.
    pub from: Date,
    /// Last day, not before the first.
    pub to: Date,
}

/// Which of the built-in rules hold; each only under the default that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Infrastructure {
    /// Under `default: kubernetes`: from and to the own node.
    pub own_node: bool,
    /// Under `default: deny`: from the own node to the probe ports.
    pub probes: bool,
    /// Under `default: deny`: to the cluster's resolver.
    pub resolver: bool,
}

impl Infrastructure {
    /// All of them: what holds where nothing is said.
    pub const ALL: Self = Self { own_node: true, probes: true, resolver: true };
    /// None of them.
    pub const NONE: Self = Self { own_node: false, probes: false, resolver: false };
}

impl Default for Infrastructure {
    fn default() -> Self {
        Self::ALL
    }
}

/// How much an incident in a collection weighs. Says nothing about verdicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Criticality {
    /// Less than others.
    Low,
    /// As others.
    #[default]
    Normal,
    /// More than others.
    High,
}

/// What holds where no policy selects a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CollectionDefault {
    /// Nothing passes.
    #[default]
    Deny,
    /// As Kubernetes: an unselected workload is open.
    Kubernetes,
}

/// A day of the Gregorian calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

impl Date {
    /// A day that there is, of the years 1970 to 9999.
    pub fn new(year: u16, month: u8, day: u8) -> Option<Self> {
        let sound = (1970..=9999).contains(&year) && (1..=12).contains(&month);
        (sound && (1..=days_in(year, month)).contains(&day)).then_some(Self { year, month, day })
    }

    /// Reads `YYYY-MM-DD`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
        let (year, rest) = text.split_once('-')?;
        let (month, day) = rest.split_once('-')?;
        if !digits(year, 4) || !digits(month, 2) || !digits(day, 2) {
            return None;
        }
        Self::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)
    }

    /// The day of a moment, in seconds since 1970 in UTC; the last day there is for moments beyond it.
    pub fn of_unix_seconds(seconds: u64) -> Self {
        let mut days = seconds / 86_400;
        let mut date = Self { year: 1970, month: 1, day: 1 };
        loop {
            let in_year = if is_leap(date.year) { 366 } else { 365 };
            if days < in_year {
                break;
            }
            if date.year == 9999 {
                return Self { year: 9999, month: 12, day: 31 };
            }
            days -= in_year;
            date.year += 1;
        }
        while days >= u64::from(days_in(date.year, date.month)) {
            days -= u64::from(days_in(date.year, date.month));
            date.month += 1;
        }
        // Fewer days are left than the month has.
        date.day += u8::try_from(days).unwrap_or_default();
        date
    }

    /// The day before; `None` before the first.
    pub fn previous(self) -> Option<Self> {
        match (self.month, self.day) {
            (1, 1) => Self::new(self.year - 1, 12, 31),
            (month, 1) => Self::new(self.year, month - 1, days_in(self.year, month - 1)),
            (month, day) => Self::new(self.year, month, day - 1),
        }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

fn is_leap(year: u16) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u16, month: u8) -> u8 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NamespaceMatch, Selector};

    fn day(text: &str) -> Date {
        Date::parse(text).unwrap()
    }

    fn step(from: &str, mode: Mode, canary: Share) -> ScheduleStep {
        ScheduleStep { from: day(from), mode, canary }
    }

    fn tenth() -> Share {
        Share::percent(10).unwrap()
    }

    fn collection(freeze: &[(&str, &str)]) -> Collection {
        Collection {
            name: "shop".into(),
            covers: Subject {
                namespaces: NamespaceMatch::Own("shop".into()),
                workloads: Selector::default(),
            },
            owners: vec![],
            default: CollectionDefault::Deny,
            mode: Mode::Observe,
            canary: Share::ALL,
            schedule: vec![
                step("2026-12-01", Mode::Audit, Share::ALL),
                step("2027-01-01", Mode::Enforce, tenth()),
                step("2027-02-01", Mode::Enforce, Share::ALL),
            ],
            freeze: freeze.iter().map(|(from, to)| Freeze { from: day(from), to: day(to) }).collect(),
            infrastructure: Infrastructure::ALL,
            criticality: Criticality::Normal,
        }
    }

    /// Mode and share of each day.
    fn held(collection: &Collection, days: &[&str]) -> Vec<(Mode, Share)> {
        let on = days.iter().map(|text| collection.on(day(text)));
        on.map(|collection| (collection.mode, collection.canary)).collect()
    }

    #[test]
    fn the_last_step_that_has_begun_holds() {
        let held =
            held(&collection(&[]), &["2026-11-30", "2026-12-01", "2026-12-31", "2027-01-01", "2031-05-05"]);
        let (observe, audit) = ((Mode::Observe, Share::ALL), (Mode::Audit, Share::ALL));
        assert_eq!(held, [observe, audit, audit, (Mode::Enforce, tenth()), (Mode::Enforce, Share::ALL)]);
    }

    #[test]
    fn a_step_that_falls_into_a_freeze_waits_for_its_end() {
        let frozen = collection(&[("2026-12-18", "2027-01-04"), ("2027-01-05", "2027-01-06")]);
        let (audit, canary) = ((Mode::Audit, Share::ALL), (Mode::Enforce, tenth()));
        let days = ["2026-12-20", "2027-01-01", "2027-01-05", "2027-01-06", "2027-01-07"];
        assert_eq!(held(&frozen, &days), [audit, audit, audit, audit, canary]);
        let ever = collection(&[("1970-01-01", "2027-06-01")]);
        assert_eq!(held(&ever, &["2027-02-02"]), [(Mode::Observe, Share::ALL)]);
        let on = frozen.on(day("2027-01-07"));
        assert_eq!((on.schedule.len(), on.freeze.len()), (0, 0), "nothing is left to come");
    }

    #[test]
    fn a_freeze_holds_the_share_of_a_canary_as_well() {
        let frozen = collection(&[("2027-01-20", "2027-02-10")]);
        let whole = (Mode::Enforce, Share::ALL);
        assert_eq!(held(&frozen, &["2027-02-05", "2027-02-11"]), [(Mode::Enforce, tenth()), whole]);
    }

    #[test]
    fn outside_its_share_enforcement_is_an_audit_and_other_modes_are_themselves() {
        let canary = Collection { mode: Mode::Enforce, canary: tenth(), ..collection(&[]) };
        let uids: Vec<String> = (0..1_000).map(|n| format!("uid-{n}")).collect();
        let enforced = uids.iter().filter(|uid| canary.mode_of(uid) == Mode::Enforce).count();
        let audited = uids.iter().filter(|uid| canary.mode_of(uid) == Mode::Audit).count();
        assert_eq!(enforced + audited, 1_000);
        assert!((60..140).contains(&enforced), "{enforced} of 1,000 are a tenth");
        let observed = Collection { mode: Mode::Observe, ..canary };
        assert!(uids.iter().all(|uid| observed.mode_of(uid) == Mode::Observe));
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for text in
            ["2027-02-29", "2026-13-01", "2026-00-10", "2026-04-31", "26-01-01", "2026-1-1", "+026-01-01"]
        {
            assert_eq!(Date::parse(text), None, "{text}");
        }
        assert_eq!(day("2028-03-01").previous(), Some(day("2028-02-29")));
        assert_eq!(day("2027-01-01").previous(), Some(day("2026-12-31")));
        let of = |seconds| Date::of_unix_seconds(seconds).to_string();
        assert_eq!(
            (of(0), of(951_782_399), of(951_782_400)),
            ("1970-01-01".into(), "2000-02-28".into(), "2000-02-29".into())
        );
        assert_eq!((of(1_795_564_800), of(u64::MAX)), ("2026-11-25".into(), "9999-12-31".into()));
    }
}
