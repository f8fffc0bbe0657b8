//! Times on the command line: a whole number and its unit.

use std::time::Duration;

// Nothing that vipctl waits for takes longer; a greater number is a typing error.
const LONGEST: Duration = Duration::from_secs(3600);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    #[error("no unit: write {0}s or {0}ms")]
    NoUnit(u64),
    #[error("not a time: write a whole number and ms, s or m, as in 500ms, 5s, 2m")]
    Malformed,
    #[error("must be more than 0")]
    Zero,
    #[error("must be at most 60m")]
    TooLong,
}

/// Reads `500ms`, `5s` or `2m`: more than 0, at most an hour.
pub fn parse(text: &str) -> Result<Duration, Wrong> {
    let end_of_number = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end_of_number);
    let number: u64 = number.parse().map_err(|_| Wrong::Malformed)?;
    let time = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60).ok_or(Wrong::TooLong)?),
        "" => return Err(Wrong::NoUnit(number)),
        _ => return Err(Wrong::Malformed),
    };
    if time.is_zero() {
        return Err(Wrong::Zero);
    }
    if time > LONGEST { Err(Wrong::TooLong) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_unit() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse("60m"), Ok(LONGEST));
    }

    #[test]
    fn refuses_the_rest_and_says_why() {
        assert_eq!(parse("5"), Err(Wrong::NoUnit(5)));
        assert_eq!(parse("0s"), Err(Wrong::Zero));
        assert_eq!(parse("61m"), Err(Wrong::TooLong));
        assert_eq!(parse("18446744073709551615m"), Err(Wrong::TooLong));
        for text in ["", "s", "-5s", "5 s", "5h", "1.5s", "99999999999999999999s", "5s "] {
            assert_eq!(parse(text), Err(Wrong::Malformed), "{text:?}");
        }
    }
}
