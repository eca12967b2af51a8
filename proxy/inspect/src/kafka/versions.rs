//! The answer to `ApiVersions`, made to name no version that could not be read here.

use super::topics::last_version;

/// The same answer, of the same length, with lower last versions where that is needed. Unchanged where it does not read as
/// its version says.
pub(super) fn restricted(answer: &[u8], version: i16) -> Vec<u8> {
    let mut out = answer.to_vec();
    // A broker that does not know the version answers in the first one, with error 35.
    let first = version <= 2 || answer.get(8..10) == Some(&[0, 35]);
    let (mut at, size) = if first { (14, 6) } else { (11, 7) };
    let count = if first {
        answer.get(10..14).and_then(|count| count.try_into().ok()).map_or(0, u32::from_be_bytes)
    } else {
        // One more than there are; more than 126 take two bytes.
        match (answer.get(10), answer.get(11)) {
            (Some(low @ 0x80..), Some(high @ 0..=0x7f)) => {
                at = 12;
                (u32::from(low & 0x7f) | u32::from(*high) << 7).saturating_sub(1)
            }
            (Some(count), _) => u32::from(*count).saturating_sub(1),
            (None, _) => 0,
        }
    };
    for _ in 0..count {
        let Some(entry) = out.get_mut(at..at + size) else { break };
        let Some(&[key_high, key_low, min_high, min_low, max_high, max_low]) = entry.first_chunk() else {
            break;
        };
        // Tagged fields of an entry: none are defined.
        if size == 7 && entry.get(6) != Some(&0) {
            break;
        }
        let (min, max) = (i16::from_be_bytes([min_high, min_low]), i16::from_be_bytes([max_high, max_low]));
        if let Some(last) = last_version(u16::from_be_bytes([key_high, key_low])).filter(|last| *last < max) {
            let [high, low] = last.max(min).to_be_bytes();
            if let [_, _, _, _, max_high, max_low, ..] = entry {
                (*max_high, *max_low) = (high, low);
            }
        }
        at += size;
    }
    out
}
