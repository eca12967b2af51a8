//! Days of a schedule: `YYYY-MM-DD`.

use crate::diagnostics::{Report, quoted};
use crate::model::Date;
use crate::yaml::{Fields, Node};

/// A field that is a day and has to be there.
pub(super) fn required(report: &mut Report, fields: &mut Fields<'_>, name: &'static str) -> Option<Date> {
    let node: &Node = fields.required(report, name)?;
    let text = node.as_scalar().map(|scalar| scalar.text.as_ref()).unwrap_or_default();
    let day = Date::parse(text);
    if day.is_none() {
        report
            .error("bad-value", node.span, format!("`{name}` is {}, which is no day", quoted(text)))
            .help("write year, month and day, for example `2027-01-15`");
    }
    day
}
