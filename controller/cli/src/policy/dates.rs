//! The day that schedules and freezes are held on, given on the command line.
//!
//! The controller goes by its own clock; a question about documents must have one answer on every day, so it names the
//! day itself. Without one, each collection's `mode` counts as it is written, and it is said that a schedule was left out.

use bulkhead_policies::documents::Loaded;
use bulkhead_policies::model::Date;

/// The day that is asked about.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub(super) struct DateArguments {
    /// Hold collections as their schedules and freezes say on this day: `YYYY-MM-DD`, or a time as
    /// `2027-01-15T08:00:00+02:00`, whose day in UTC counts. Without it, `mode` counts as it is written
    #[arg(long, value_name = "DAY", value_parser = parse_day)]
    pub(super) date: Option<Date>,
}

impl DateArguments {
    /// Holds a set on the day. If there is none, but something that would come to pass, that is told on standard error.
    pub(super) fn hold(self, loaded: &mut Loaded) {
        match self.date {
            Some(day) => loaded.set = loaded.set.on(day),
            None => {
                let scheduled =
                    loaded.set.collections.iter().filter(|collection| !collection.schedule.is_empty());
                for collection in scheduled {
                    eprintln!(
                        "note: the schedule of collection `{}` is left out, and its mode is `{}`: `--date YYYY-MM-DD` says on which day it is held",
                        collection.name,
                        collection.mode.as_str()
                    );
                }
            }
        }
    }
}

/// A day, or the day in UTC of a time (RFC 3339).
fn parse_day(text: &str) -> Result<Date, String> {
    let found = match text.split_once(['T', 't', ' ']) {
        None => Date::parse(text),
        Some((day, time)) => Date::parse(day).and_then(|day| in_utc(day, time)),
    };
    found.ok_or_else(|| {
        format!("`{text}` is no day: write `2027-01-15`, or a time with its offset as `2027-01-15T08:00:00Z`")
    })
}

/// The day in UTC of a time of day with its offset.
fn in_utc(day: Date, time: &str) -> Option<Date> {
    let at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, offset) = time.split_at(at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hours, minutes, seconds] =
        clock.split(':').map(two_digits).collect::<Option<Vec<_>>>()?.try_into().ok()?;
    let sound = hours < 24 && minutes < 60 && seconds <= 60 && fraction.bytes().all(|b| b.is_ascii_digit());
    let ahead = match offset {
        "Z" | "z" => 0,
        _ => {
            let (hours, minutes) = offset.get(1..)?.split_once(':')?;
            let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let ahead = hours * 60 + minutes;
            if offset.starts_with('-') { -ahead } else { ahead }
        }
    };
    match hours * 60 + minutes - ahead {
        _ if !sound || fraction.is_empty() => None,
        ..0 => day.previous(),
        1440.. => next(day),
        _ => Some(day),
    }
}

fn two_digits(text: &str) -> Option<i32> {
    (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// The one day whose day before is this one.
fn next(day: Date) -> Option<Date> {
    let text = day.to_string();
    let (year, month, of_month) = (text.get(..4)?, text.get(5..7)?, text.get(8..)?);
    let (year, month, of_month): (u16, u8, u8) =
        (year.parse().ok()?, month.parse().ok()?, of_month.parse().ok()?);
    let in_month = Date::new(year, month, of_month + 1);
    in_month.or_else(|| Date::new(year, month + 1, 1)).or_else(|| Date::new(year + 1, 1, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_a_date_or_the_utc_day_of_a_time() {
        for (text, expected) in [
            ("2027-01-15", "2027-01-15"),
            ("2027-01-15T08:00:00Z", "2027-01-15"),
            ("2027-01-15t08:00:00.25z", "2027-01-15"),
            ("2027-01-01T01:30:00+02:00", "2026-12-31"),
            ("2026-12-31T23:30:00-01:00", "2027-01-01"),
            ("2028-02-28T23:59:60-00:30", "2028-02-29"),
        ] {
            assert_eq!(parse_day(text).map(|day| day.to_string()), Ok(expected.to_owned()), "{text}");
        }
        for text in [
            "",
            "tomorrow",
            "2027-02-29",
            "2027-1-5",
            "2027-01-15T08:00",
            "2027-01-15T08:00:00",
            "2027-01-15T24:00:00Z",
            "2027-01-15T08:00:00+2",
            "2027-01-15T08:00:00+24:00",
            "2027-01-15T08:00:00.Z",
        ] {
            assert!(parse_day(text).is_err(), "{text}");
        }
    }
}
