//! How values are written: numbers, durations, sizes, switches.

use std::time::Duration;

/// A number between `least` and `most`.
pub(super) fn number(least: u64, most: u64) -> impl Fn(&str) -> Result<u64, String> {
    move |text| {
        let value: u64 = text.parse().map_err(|_| format!("{text:?} is not a whole number"))?;
        if (least..=most).contains(&value) {
            Ok(value)
        } else {
            Err(format!("{value} is not between {least} and {most}"))
        }
    }
}

/// As [`number`], for counts.
pub(super) fn count(least: usize, most: usize) -> impl Fn(&str) -> Result<usize, String> {
    move |text| {
        let value = number(least as u64, most as u64)(text)?;
        usize::try_from(value).map_err(|_| format!("{value} does not fit this machine"))
    }
}

/// Milliseconds between `least` and `most`.
pub(super) fn milliseconds(least: u64, most: u64) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| number(least, most)(text).map(Duration::from_millis)
}

/// Bytes between `least` and `most`, plain or with `KiB`, `MiB` or `GiB`.
pub(super) fn bytes(least: usize, most: usize) -> impl Fn(&str) -> Result<usize, String> {
    move |text| {
        let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
        let (digits, shift) = units
            .iter()
            .find_map(|(unit, shift)| text.strip_suffix(unit).map(|digits| (digits.trim_end(), *shift)))
            .unwrap_or((text, 0));
        let not_a_size = || format!("{text:?} is not a size such as 4096, 64KiB or 8MiB");
        let value: usize = digits.parse().map_err(|_| not_a_size())?;
        let value = value.checked_mul(1 << shift).ok_or_else(not_a_size)?;
        if (least..=most).contains(&value) {
            Ok(value)
        } else {
            Err(format!("{value} bytes is not between {least} and {most}"))
        }
    }
}

/// `on` or `off`.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    one_of(&[("on", true), ("off", false)])(text)
}

/// One of the named values.
pub(super) fn one_of<T: Copy>(choices: &[(&'static str, T)]) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        let found = choices.iter().find(|(name, _)| *name == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            format!("{text:?} is not one of: {}", names.join(", "))
        })
    }
}
