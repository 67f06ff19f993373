//! PURE. Sizes as people write them.
//!
//! Start reading at [`binary`]. Sizes of logs, in powers of ten, are read where they are used (`logs/settings.rs`).

/// Reads `64m`, `1.5GiB`, `4096`: binary multiples, as go-units' `RAMInBytes` does.
pub fn binary(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits_end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits_end);
    let shift = match unit.trim_start() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let factor = 1_u64 << shift;
    let mut size = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    let mut scale: u128 = 1;
    let mut numerator: u128 = 0;
    // More digits than these cannot change the number of bytes.
    for digit in fraction.bytes().take(18) {
        numerator = numerator * 10 + u128::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
        scale *= 10;
    }
    size = size.checked_add(u64::try_from(numerator * u128::from(factor) / scale).ok()?)?;
    Some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_multiples() {
        let cases = [
            ("64m", 64 << 20),
            ("1GiB", 1 << 30),
            ("4096", 4096),
            ("2kb", 2048),
            ("1.5g", 3 << 29),
            (" 1 T", 1 << 40),
            ("0", 0),
        ];
        for (text, expected) in cases {
            assert_eq!(binary(text), Some(expected), "{text}");
        }
        for text in ["", "m", "1x", "-1", "1.2.3m", "1mm", "99999999999999t", "1bb"] {
            assert_eq!(binary(text), None, "{text}");
        }
    }
}
