//! The only source of random values: ids, tokens, keys, salts.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// The digits of base 62, from the lowest.
pub(crate) const BASE62: &[u8; 62] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Length of random secrets and keys, in bytes.
pub(crate) const SECRET_BYTES: usize = 32;

/// Fills a buffer with bytes of the system's generator.
pub(crate) fn fill(bytes: &mut [u8]) {
    if aws_lc_rs::rand::fill(bytes).is_err() {
        // AWS-LC ends the process if the system has no entropy. If it ever reported an error instead, continuing
        // would produce secrets that can be guessed.
        std::process::abort();
    }
}

/// Draws 16 bytes as 22 characters of base64url.
pub(crate) fn id_text() -> String {
    let mut bytes = [0; 16];
    fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Draws 256 bits as 43 characters of base64url.
pub(crate) fn secret_text() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
    fill(bytes.as_mut_slice());
    Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()))
}

/// Draws `count` characters of base 62 with a uniform distribution.
pub(crate) fn base62(count: usize) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(count));
    let mut bytes = Zeroizing::new([0_u8; 64]);
    while text.len() < count {
        fill(bytes.as_mut_slice());
        // Of the values 0 to 63, 62 and 63 are discarded, since a remainder would favour the first digits.
        let digits = bytes
            .iter()
            .filter_map(|b| BASE62.get(usize::from(b & 0x3f)));
        for digit in digits.take(count - text.len()) {
            text.push(char::from(*digit));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_62_is_drawn_evenly() {
        let text = base62(62 * 1000);
        let mut counts = std::collections::BTreeMap::<char, u32>::new();
        for c in text.chars() {
            *counts.entry(c).or_default() += 1;
        }
        assert_eq!(counts.len(), 62);
        // Each digit is drawn 1,000 times, plus or minus 31; with `% 62` two of them would be drawn 1,500 times.
        for (digit, count) in counts {
            assert!((800..=1200).contains(&count), "{digit}: {count}");
        }
    }
}
