//! Dates and times of day as texts, in UTC.

/// Seconds of a day.
pub(super) const DAY: i64 = 86_400;

/// Seconds since the epoch of `YYYY-MM-DD`, its midnight, or of `YYYY-MM-DDTHH:MM:SSZ`.
pub fn instant(text: &str) -> Option<i64> {
    match text.split_once('T') {
        None => Some(i64::from(day(text)?) * DAY),
        Some((date, time)) => Some(i64::from(day(date)?) * DAY + i64::from(second(time.strip_suffix('Z')?)?)),
    }
}

/// The text that [`instant`] reads: the date alone at midnight.
pub(super) fn text(instant: i64) -> String {
    let (year, month, date) = civil(instant.div_euclid(DAY));
    let second = instant.rem_euclid(DAY);
    let date = format!("{year:04}-{month:02}-{date:02}");
    if second == 0 {
        return date;
    }
    format!("{date}T{:02}:{:02}:{:02}Z", second / 3_600, second / 60 % 60, second % 60)
}

/// Seconds of the day of `HH:MM` or `HH:MM:SS`, with or without a `Z`.
pub(super) fn second(text: &str) -> Option<u32> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let mut parts = text.splitn(3, ':').map(two_digits);
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    (hour < 24 && minute < 60 && second < 60).then_some(hour * 3_600 + minute * 60 + second)
}

fn two_digits(text: &str) -> Option<u32> {
    (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Days since the epoch of `YYYY-MM-DD`.
fn day(text: &str) -> Option<i32> {
    let is_date = |at: usize, b: u8| if at == 4 || at == 7 { b == b'-' } else { b.is_ascii_digit() };
    if text.len() != 10 || !text.bytes().enumerate().all(|(at, b)| is_date(at, b)) {
        return None;
    }
    let mut parts = text.splitn(3, '-').map(|part| part.parse::<i32>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i32::from(leap),
        _ => 31,
    };
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=last).contains(&day) {
        return None;
    }
    // Years begin in March here, so that the leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    Some(365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468)
}

/// Year, month and day of a number of days since the epoch.
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let (date, month) = (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    (year_of_era + era * 400 + i64::from(month <= 2), month, date)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_days_since_the_epoch() {
        assert_eq!(instant("1970-01-01"), Some(0));
        assert_eq!(instant("2000-02-29"), Some(11_016 * DAY));
        assert_eq!(instant("2025-06-10"), Some(20_249 * DAY));
        assert_eq!(instant("2025-06-10T00:00:01Z"), Some(20_249 * DAY + 1));
        assert_eq!(instant("2025-06-10T23:59:59Z"), Some(20_250 * DAY - 1));
        for bad in [
            "",
            "2025-6-1",
            "2025-02-29",
            "2025-13-01",
            "2025-00-10",
            "2025-06-31",
            "20250610",
            "1969-12-31",
            "2025-06-10T12:00:00",
            "2025-06-10T24:00:00Z",
            "2025-06-10 12:00:00Z",
            "+025-06-10",
            "2025-+6-10",
        ] {
            assert_eq!(instant(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn times_are_seconds_of_the_day() {
        assert_eq!(second("00:30:00Z"), Some(1_800));
        assert_eq!(second("16:30:00"), Some(59_400));
        assert_eq!(second("16:30"), Some(59_400));
        for bad in ["", "24:00:00", "12:60:00", "12", "noon", "+1:00:00", "1:00", "12:00:", "-1:00:00"] {
            assert_eq!(second(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(at in 0i64..253_402_300_800) {
            prop_assert_eq!(instant(&text(at)), Some(at));
        }
    }
}
