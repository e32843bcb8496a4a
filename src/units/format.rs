//! Sizes and durations as people write and read them.

use std::time::Duration;

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// `bytes` with a binary unit and at most two decimals: `1536` is `1.50 KiB`.
pub fn format_bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// `1 pack`, `2 packs`: a count of things whose name takes an "s".
pub fn format_count(count: impl Into<u64>, one: &str) -> String {
    let count = count.into();
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// Reads a size such as `32 KiB`, `64M` or `4096` (bytes; units are binary). `None` when it is
/// not one, or does not fit in 64 bits.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let exponent = match text[digits..].trim() {
        "" | "B" => 0,
        "K" | "KiB" => 1,
        "M" | "MiB" => 2,
        "G" | "GiB" => 3,
        "T" | "TiB" => 4,
        "P" | "PiB" => 5,
        _ => return None,
    };
    number.checked_mul(1024_u64.pow(exponent))
}

/// A duration in the two largest units that matter: `2h 05m`, `3m 07s`, `4.2s`.
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_not_called_several() {
        assert_eq!(format_count(1_u64, "pack"), "1 pack");
        assert_eq!(format_count(0_u64, "pack"), "0 packs");
    }

    #[test]
    fn sizes_are_read_and_written() {
        assert_eq!(format_bytes(1023), "1023 B");
        assert_eq!(format_bytes(1536), "1.50 KiB");
        assert_eq!(format_bytes(u64::MAX), "16.0 EiB");
        assert_eq!(parse_bytes("32 KiB"), Some(32768));
        assert_eq!(parse_bytes("64M"), Some(64 << 20));
        assert_eq!(parse_bytes("4096"), Some(4096));
        assert_eq!(parse_bytes("99999999999 P"), None);
        assert_eq!(parse_bytes("-1"), None);
        assert_eq!(parse_bytes("1 kb"), None);
    }
}
