//! How numbers are printed: AP in percent with one decimal, as papers do.

/// An AP as percent.
pub fn percent(value: f64) -> String {
    unsigned_zero(format!("{:.1}", value * 100.0))
}

/// A difference of AP in percentage points, with its sign.
pub fn signed_percent(value: f64) -> String {
    let printed = percent(value);
    if printed.starts_with('-') || printed == "0.0" { printed } else { format!("+{printed}") }
}

/// An interval of differences in percentage points.
pub fn interval_percent([low, high]: [f64; 2]) -> String {
    format!("[{}, {}]", signed_percent(low), signed_percent(high))
}

/// A value that may be missing, as percent or as a dash.
pub fn percent_or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), percent)
}

/// Minutes with enough digits to tell a short run from a long one.
pub fn minutes(seconds: f64) -> String {
    let minutes = seconds / 60.0;
    if minutes < 10.0 { format!("{minutes:.1}") } else { format!("{minutes:.0}") }
}

/// Seconds as people say them, with three digits: "8.21 s", "1.18 h".
pub fn time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        seconds if seconds < 60.0 => (seconds, "s"),
        seconds if seconds < 3600.0 => (seconds / 60.0, "min"),
        seconds => (seconds / 3600.0, "h"),
    };
    format!("{} {unit}", three_digits(value))
}

/// Millions with three digits: "0.679", "42.9".
pub fn millions(value: u64) -> String {
    three_digits(value as f64 / 1e6)
}

/// Billions with three digits.
pub fn billions(value: u64) -> String {
    three_digits(value as f64 / 1e9)
}

/// With three digits: "0.679", "12.3".
pub fn three_digits(value: f64) -> String {
    let decimals = match value {
        value if value < 1.0 => 3,
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// A number for a machine: nine decimals hold every digit that is meant, and hide the last bits in
/// which two processors may disagree.
pub fn exact(value: f64) -> String {
    let printed = format!("{value:.9}");
    unsigned_zero(printed.trim_end_matches('0').trim_end_matches('.').to_owned())
}

/// The first characters of a cell id, enough to find it in a ledger.
pub fn short(id: &str) -> &str {
    id.char_indices().nth(8).map_or(id, |(end, _)| &id[..end])
}

/// "a, b and c".
pub fn list<S: AsRef<str>>(words: &[S]) -> String {
    match words {
        [] => String::new(),
        [only] => only.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", first.join(", "), last.as_ref())
        }
    }
}

fn unsigned_zero(printed: String) -> String {
    let is_zero = printed.chars().all(|character| matches!(character, '-' | '0' | '.'));
    if is_zero { printed.trim_start_matches('-').to_owned() } else { printed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_have_one_decimal_and_no_negative_zero() {
        assert_eq!(percent(0.31449), "31.4");
        assert_eq!(signed_percent(0.0041), "+0.4");
        assert_eq!(signed_percent(-0.0041), "-0.4");
        assert_eq!(signed_percent(-0.0001), "0.0");
        assert_eq!(interval_percent([-0.012, 0.0061]), "[-1.2, +0.6]");
        assert_eq!(percent_or_dash(None), "-");
    }

    #[test]
    fn times_and_sizes_have_three_digits() {
        assert_eq!([4.3712, 61.0, 4251.6].map(time), ["4.37 s", "1.02 min", "1.18 h"]);
        assert_eq!([679_484, 42_877_000, 258_700_000].map(millions), ["0.679", "42.9", "259"]);
        assert_eq!(billions(136_200_000_000), "136");
    }

    #[test]
    fn exact_numbers_keep_their_digits_and_drop_the_noise() {
        assert_eq!(exact(0.25), "0.25");
        assert_eq!(exact(0.1 + 0.2), "0.3");
        assert_eq!(exact(128.0), "128");
        assert_eq!(exact(-0.0), "0");
        assert_eq!(exact(0.123_456_789_4), "0.123456789");
    }

    #[test]
    fn lists_read_as_a_sentence() {
        assert_eq!(list(&["a"]), "a");
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
        assert_eq!(list::<&str>(&[]), "");
    }

    #[test]
    fn short_ids_never_split_a_character() {
        assert_eq!(short("0123456789abcdef"), "01234567");
        assert_eq!(short("\u{e9}1"), "\u{e9}1");
    }
}
