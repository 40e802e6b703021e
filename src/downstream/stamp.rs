//! The time of a replayed line as text, for clients without server-time: local time, as the user
//! reads it. Where it stands in the line is `state::forms`'.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp as Instant, Zoned};

use crate::config::TimeStyle;
use crate::wire::Timestamp;

/// Writes times in one style, as seen from one moment: what does not change between lines is found once.
pub(super) struct Stamper<'a> {
    style: &'a TimeStyle,
    zone: TimeZone,
    today: Date,
    /// The second that was written last: in a lively channel the next line is of the same.
    last: (i64, String),
}

impl<'a> Stamper<'a> {
    pub(super) fn new(style: &'a TimeStyle, now: Timestamp) -> Self {
        let zone = TimeZone::system();
        let today = instant(now).to_zoned(zone.clone()).date();
        Self {
            style,
            zone,
            today,
            last: (i64::MIN, String::new()),
        }
    }

    /// The text before a line, with the space behind it.
    pub(super) fn text(&mut self, at: Timestamp) -> &str {
        let second = at.millis().div_euclid(1000);
        // A format of the user's own may show more than seconds.
        if self.last.0 != second || matches!(self.style, TimeStyle::Strftime(_)) {
            let text = match self.style {
                TimeStyle::None => String::new(),
                _ => written(
                    self.style,
                    &instant(at).to_zoned(self.zone.clone()),
                    self.today,
                ),
            };
            self.last = (second, text);
        }
        &self.last.1
    }
}

fn instant(at: Timestamp) -> Instant {
    Instant::from_millisecond(at.millis()).unwrap_or(Instant::UNIX_EPOCH)
}

fn written(style: &TimeStyle, at: &Zoned, today: Date) -> String {
    let format = match style {
        TimeStyle::None => return String::new(),
        TimeStyle::Time if at.date() == today => "[%H:%M:%S]",
        TimeStyle::Time | TimeStyle::DateTime => "[%Y-%m-%d %H:%M:%S]",
        TimeStyle::Strftime(format) => format,
    };
    // A format that jiff does not know is shown as it stands: better than a line without its text.
    let text = jiff::fmt::strtime::format(format, at).unwrap_or_else(|_| format.to_owned());
    format!("{text} ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(millis: i64) -> Zoned {
        Instant::from_millisecond(millis)
            .unwrap()
            .to_zoned(TimeZone::UTC)
    }

    #[test]
    fn the_date_is_told_when_the_day_differs() {
        let at = utc(1_767_340_805_010);
        let tomorrow = utc(1_767_340_805_010 + 86_400_000);
        assert_eq!(written(&TimeStyle::Time, &at, at.date()), "[08:00:05] ");
        assert_eq!(
            written(&TimeStyle::Time, &at, tomorrow.date()),
            "[2026-01-02 08:00:05] "
        );
        assert_eq!(
            written(&TimeStyle::DateTime, &at, at.date()),
            "[2026-01-02 08:00:05] "
        );
        assert_eq!(
            written(&TimeStyle::Strftime("%H:%M".into()), &at, at.date()),
            "08:00 "
        );
        assert_eq!(written(&TimeStyle::None, &at, at.date()), "");
    }
}
