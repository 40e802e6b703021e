//! Durations, sizes and rates as the file writes them. A number alone is refused, because everybody guesses its unit
//! differently; only 0 needs none.

use std::time::Duration;

/// A token bucket: `burst` at once, then one `every` so long. `burst = 0`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Rate {
    /// So many at once.
    pub burst: u32,
    /// Then one in so long.
    pub every: Duration,
}

/// The longest duration the file may ask for, so that a deadline can always be computed.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

const MILLISECONDS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

const BYTES: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Why a text is no duration or size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// It does not begin with digits.
    #[error("\"{0}\" does not begin with a whole number")]
    NoNumber(String),
    /// Digits alone.
    #[error("\"{0}\" has no unit")]
    NoUnit(String),
    /// Digits and something else.
    #[error("\"{0}\" is no unit")]
    UnknownUnit(String),
    /// Beyond what can be counted.
    #[error("\"{0}\" is too much")]
    TooMuch(String),
}

/// A duration: `"250ms" "15s" "10m" "12h" "30d"`.
pub fn duration(text: &str) -> Result<Duration, UnitError> {
    let duration = Duration::from_millis(number(text, MILLISECONDS)?);
    if duration > LONGEST {
        return Err(UnitError::TooMuch(text.into()));
    }
    Ok(duration)
}

/// A size in bytes: `"64KiB" "1GiB"`.
pub fn size(text: &str) -> Result<u64, UnitError> {
    number(text, BYTES)
}

fn number(text: &str, units: &[(&str, u64)]) -> Result<u64, UnitError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(UnitError::NoNumber(text.into()));
    }
    let number: u64 = number
        .parse()
        .map_err(|_| UnitError::TooMuch(text.into()))?;
    let factor = match unit {
        "" if number == 0 => 1,
        "" => return Err(UnitError::NoUnit(text.into())),
        unit => units
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, factor)| *factor)
            .ok_or_else(|| UnitError::UnknownUnit(unit.into()))?,
    };
    number
        .checked_mul(factor)
        .ok_or_else(|| UnitError::TooMuch(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("15"), Err(UnitError::NoUnit("15".into())));
        assert_eq!(duration("15 s"), Err(UnitError::UnknownUnit(" s".into())));
        assert_eq!(duration("-1s"), Err(UnitError::NoNumber("-1s".into())));
        assert_eq!(
            duration("1h30m"),
            Err(UnitError::UnknownUnit("h30m".into()))
        );
        assert_eq!(
            duration("99999999d"),
            Err(UnitError::TooMuch("99999999d".into()))
        );
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("1GiB"), Ok(1 << 30));
        assert_eq!(size("1KB"), Err(UnitError::UnknownUnit("KB".into())));
        assert_eq!(
            size("99999999999TiB"),
            Err(UnitError::TooMuch("99999999999TiB".into()))
        );
    }
}
