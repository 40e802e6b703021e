//! Wall-clock time as IRC writes it (IRCv3 server-time: `2026-01-02T08:00:05.010Z`), in milliseconds. A stamp to show and
//! to store; deadlines are `Ticks`. Local time is for those who show it to people.

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970, UTC. A stamp to show and to store; no deadline is ever computed from it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

const DAY: i64 = 86_400_000;
/// The first and the last millisecond that four digits of a year can say.
const RANGE: (i64, i64) = (days(0, 1, 1) * DAY, (days(9999, 12, 31) + 1) * DAY - 1);

impl Timestamp {
    /// From milliseconds since 1970.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// So many milliseconds later, or earlier.
    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Reads `YYYY-MM-DDThh:mm:ss[.sss]Z`. The 60th second is the one after it; of a fraction three digits count.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (seconds, rest) = text.split_at_checked(19)?;
        let field = |from: usize, len: usize| number(&seconds[from..from + len]);
        let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
        if separators.iter().any(|&(at, byte)| seconds[at] != byte) {
            return None;
        }
        let (year, month, day) = (field(0, 4)?, field(5, 2)?, field(8, 2)?);
        let (hour, minute, second) = (field(11, 2)?, field(14, 2)?, field(17, 2)?);
        let real = (1..=12).contains(&month) && (1..=month_length(year, month)).contains(&day);
        if !real || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let millis = match rest {
            b"Z" => 0,
            [b'.', digits @ .., b'Z'] if !digits.is_empty() && digits.len() <= 9 => {
                number(digits)?;
                let digit = |n: usize| digits.get(n).map_or(0, |d| i64::from(d - b'0'));
                digit(0) * 100 + digit(1) * 10 + digit(2)
            }
            _ => return None,
        };
        let seconds = (hour * 60 + minute) * 60 + second;
        Some(Self(days(year, month, day) * DAY + seconds * 1000 + millis))
    }

    /// Appends `YYYY-MM-DDThh:mm:ss.sssZ`: always three decimals. Years beyond 0 to 9999 become the nearest of them.
    pub fn write(self, out: &mut Vec<u8>) {
        let millis = self.0.clamp(RANGE.0, RANGE.1);
        let (year, month, day) = date(millis.div_euclid(DAY));
        let of_day = millis.rem_euclid(DAY);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let mut put = |from: usize, to: usize, mut value: i64| {
            for place in text[from..to].iter_mut().rev() {
                *place = b"0123456789"[(value % 10) as usize];
                value /= 10;
            }
        };
        put(0, 4, year);
        put(5, 7, month);
        put(8, 10, day);
        put(11, 13, of_day / 3_600_000);
        put(14, 16, of_day / 60_000 % 60);
        put(17, 19, of_day / 1000 % 60);
        put(20, 23, of_day % 1000);
        out.extend_from_slice(&text);
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |n, d| {
        d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0'))
    })
}

fn month_length(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970 of a date of the Gregorian calendar. Years are counted from March, so that a leap day ends one.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year
        - 719_468
}

/// The inverse of [`days`].
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + days.div_euclid(146_097) * 400 + i64::from(month <= 2);
    (year, month, of_year - (153 * from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(time: Timestamp) -> String {
        let mut out = Vec::new();
        time.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_read_and_written() {
        for (text, millis) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2000-02-29T12:00:00.007Z", 951_825_600_007),
            ("2026-01-02T08:00:05.010Z", 1_767_340_805_010),
            ("2100-03-01T00:00:00.000Z", 4_107_542_400_000),
            ("0000-01-01T00:00:00.000Z", -62_167_219_200_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(Timestamp::parse(text.as_bytes()), Some(time), "{text}");
            assert_eq!(written(time), text);
        }
    }

    #[test]
    fn other_forms_of_a_time_are_read() {
        for (text, means) in [
            ("2016-12-31T23:59:60.250Z", "2017-01-01T00:00:00.250Z"),
            ("2026-01-02T08:00:05Z", "2026-01-02T08:00:05.000Z"),
            ("2026-01-02T08:00:05.5Z", "2026-01-02T08:00:05.500Z"),
            ("2026-01-02T08:00:05.123456Z", "2026-01-02T08:00:05.123Z"),
        ] {
            assert_eq!(written(Timestamp::parse(text.as_bytes()).unwrap()), means);
        }
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in [
            "",
            "Z",
            "2026-01-02T08:00:05.010",
            "2026-01-02 08:00:05.010Z",
            "2026-02-29T08:00:05.010Z",
            "1900-02-29T08:00:05.010Z",
            "2026-00-02T08:00:05.010Z",
            "2026-13-02T08:00:05.010Z",
            "2026-01-00T08:00:05.010Z",
            "2026-04-31T08:00:05.010Z",
            "2026-01-02T24:00:05.010Z",
            "2026-01-02T08:60:05.010Z",
            "2026-01-02T08:00:61.010Z",
            "2026-01-02T08:00:05.Z",
            "2026-01-02T08:00:05.0123456789Z",
            "2026-01-02T08:00:05.+10Z",
            "+026-01-02T08:00:05.010Z",
            "2026-01-02T08:00:05.010Z ",
        ] {
            assert_eq!(Timestamp::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn years_beyond_four_digits_become_the_nearest() {
        assert_eq!(
            written(Timestamp::from_millis(i64::MIN)),
            "0000-01-01T00:00:00.000Z"
        );
        assert_eq!(
            written(Timestamp::from_millis(i64::MAX)),
            "9999-12-31T23:59:59.999Z"
        );
        assert_eq!(
            Timestamp::from_millis(i64::MAX).plus_millis(1).millis(),
            i64::MAX
        );
    }

    proptest! {
        #[test]
        fn write_then_parse_is_the_identity(millis in RANGE.0..=RANGE.1) {
            let time = Timestamp::from_millis(millis);
            prop_assert_eq!(Timestamp::parse(written(time).as_bytes()), Some(time));
        }

        #[test]
        fn the_order_of_texts_is_the_order_of_times(a in RANGE.0..=RANGE.1, b in RANGE.0..=RANGE.1) {
            let (a, b) = (Timestamp::from_millis(a), Timestamp::from_millis(b));
            prop_assert_eq!(a.cmp(&b), written(a).cmp(&written(b)));
        }

        #[test]
        fn any_bytes_are_read_or_refused(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9:]{5}.?[0-9a]{0,4}Z?") {
            if let Some(time) = Timestamp::parse(text.as_bytes()) {
                prop_assert_eq!(Timestamp::parse(written(time).as_bytes()), Some(time));
            }
        }
    }
}
