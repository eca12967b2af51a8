//! Whether the part behind `xn--` encodes an international label (RFC 3492).
//!
//! Only validity is asked: names are compared in their encoded form. What is not valid, or encodes plain ASCII, is read
//! differently by different parsers.

const BASE: u32 = 36;
const THRESHOLD_MIN: u32 = 1;
const THRESHOLD_MAX: u32 = 26;

/// True if `encoded` (ASCII letters, digits and hyphens) decodes to a label with a character beyond ASCII.
pub(crate) fn is_international(encoded: &str) -> bool {
    let (plain, digits) = match encoded.rsplit_once('-') {
        Some((plain, digits)) => (plain.len(), digits),
        None => (0, encoded),
    };
    !digits.is_empty() && decodes(u32::try_from(plain).unwrap_or(u32::MAX), digits).is_some()
}

/// Decodes the digits behind `length` plain characters (section 6.2); only the code points matter.
fn decodes(mut length: u32, digits: &str) -> Option<()> {
    let (mut code, mut index, mut bias) = (128u32, 0u32, 72u32);
    let mut digits = digits.bytes().peekable();
    while digits.peek().is_some() {
        let before = index;
        let mut weight = 1u32;
        for k in (1..).map(|step| step * BASE) {
            let digit = digit(digits.next()?)?;
            index = index.checked_add(digit.checked_mul(weight)?)?;
            let threshold = k.saturating_sub(bias).clamp(THRESHOLD_MIN, THRESHOLD_MAX);
            if digit < threshold {
                break;
            }
            weight = weight.checked_mul(BASE - threshold)?;
        }
        length += 1;
        bias = adapt(index - before, length, before == 0);
        code = code.checked_add(index / length)?;
        index = index % length + 1;
        char::from_u32(code)?;
    }
    Some(())
}

fn digit(byte: u8) -> Option<u32> {
    match byte {
        b'a'..=b'z' => Some(u32::from(byte - b'a')),
        b'A'..=b'Z' => Some(u32::from(byte - b'A')),
        b'0'..=b'9' => Some(u32::from(byte - b'0') + 26),
        _ => None,
    }
}

/// Section 6.1.
fn adapt(delta: u32, length: u32, first: bool) -> u32 {
    let mut delta = if first { delta / 700 } else { delta / 2 };
    delta += delta / length;
    let mut steps = 0;
    while delta > (BASE - THRESHOLD_MIN) * THRESHOLD_MAX / 2 {
        delta /= BASE - THRESHOLD_MIN;
        steps += BASE;
    }
    steps + (BASE - THRESHOLD_MIN + 1) * delta / (delta + 38)
}

#[cfg(test)]
mod tests {
    use super::is_international;

    #[test]
    fn labels_of_real_names_decode() {
        for label in [
            "bcher-kva",
            "mnchen-3ya",
            "p1ai",
            "fsqu00a",
            "fiqs8s",
            "wgbl6a",
            "4ca",
            "egbpdaj6bu4bxfgehfvwxn",
        ] {
            assert!(is_international(label), "{label}");
        }
    }

    #[test]
    fn plain_ascii_and_garbage_do_not() {
        for label in ["", "-", "example-", "a-", "99999999999", "a_b"] {
            assert!(!is_international(label), "{label}");
        }
    }
}
