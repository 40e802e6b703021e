//! The keys that say how long history is kept: by age, and by its size. How it is forgotten is
//! `history`'s.

use std::time::Duration;

use super::HistoryRules;
use super::keys;
use super::reader::{Reader, Value};

/// How long lines are kept; 0 is for ever.
pub(super) fn retention(value: Value<'_>, reader: &mut Reader<'_>, into: &mut Option<Duration>) {
    if let Some(span) = reader.duration(value) {
        *into = Some(span).filter(|span| !span.is_zero());
    }
}

/// How many bytes of history a user may have; 0 is any number.
pub(super) fn max_size(value: Value<'_>, reader: &mut Reader<'_>, into: &mut Option<u64>) {
    let mut bytes = 0;
    reader.size(value, &mut bytes);
    match bytes {
        0 => {}
        usize::MAX => *into = None,
        bytes => *into = Some(bytes as u64),
    }
}

/// `history` of a network or channel: a size is a matter of the whole user.
pub(super) fn of_part(value: Value<'_>, reader: &mut Reader<'_>, into: &mut HistoryRules) {
    let whole = into.max_size;
    reader.table(value, keys::HISTORY, into);
    into.max_size = whole;
    if let Some(size) = value.get("max_size") {
        reader.under("max_size", |reader| {
            reader.error(
                size,
                "is for all networks of a user together",
                "write it into the user's history, or into [history]",
            );
        });
    }
}
