//! Foreign text made safe for a terminal, which would execute control characters and let others hide or reorder its
//! output.

use std::borrow::Cow;
use std::fmt::Write;

/// Returns the text on one line, with every character that a terminal would execute, hide or omit escaped as in JSON:
/// `\n`, `\u001b`, `\u202e`.
///
/// Inside a JSON text the result has the same meaning as before. Quotes and backslashes are kept.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut is_first = true;
    for c in text.chars() {
        // A combining mark at the beginning would join the character printed before it.
        if is_visible(c) && !(is_first && combines(c)) {
            shown.push(c);
            is_first = false;
        } else {
            escape(c, &mut shown);
            is_first = true;
        }
    }
    Cow::Owned(shown)
}

/// Whether a character is one of Unicode's default-ignorable code points, which are not shown and which many
/// comparisons drop.
///
/// Source: Unicode property `Default_Ignorable_Code_Point` (`DerivedCoreProperties.txt`).
#[must_use]
pub const fn is_ignorable(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Whether a terminal shows a character in its place without any other effect.
fn is_visible(c: char) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_graphic();
    }
    // The blank pattern of Braille, and interlinear annotations.
    let is_hidden = is_ignorable(c) || matches!(c, '\u{2800}' | '\u{fff9}'..='\u{fffb}');
    !c.is_control() && !c.is_whitespace() && !is_hidden && is_assigned(c)
}

/// Whether the standard library shows a character: it is not a format character, not private, and assigned.
fn is_assigned(c: char) -> bool {
    combines(c) || c.escape_debug().count() == 1
}

/// Whether a character is shown combined with the one before it.
fn combines(c: char) -> bool {
    let mut pair = String::from("a");
    pair.push(c);
    // The library escapes such a mark on its own, but not after a letter.
    pair.escape_debug().count() == 2 && c.escape_debug().count() != 1
}

fn escape(c: char, shown: &mut String) {
    match c {
        '\n' => shown.push_str("\\n"),
        '\r' => shown.push_str("\\r"),
        '\t' => shown.push_str("\\t"),
        _ => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_hides_or_reorders_is_written_out() {
        let cases = [
            (
                "plain text: \"quoted\" \\ back",
                "plain text: \"quoted\" \\ back",
            ),
            ("", ""),
            ("a\nb\r\n\tc", "a\\nb\\r\\n\\tc"),
            (
                "\u{1b}[2J\u{7}\u{8}\u{7f}\0",
                "\\u001b[2J\\u0007\\u0008\\u007f\\u0000",
            ),
            // C1: CSI, OSC and NEL as one byte.
            ("\u{9b}2J\u{9d}0;x\u{85}", "\\u009b2J\\u009d0;x\\u0085"),
            (
                "a\u{202e}b\u{202c}\u{2066}c\u{2069}",
                "a\\u202eb\\u202c\\u2066c\\u2069",
            ),
            ("\u{200e}\u{200f}\u{61c}", "\\u200e\\u200f\\u061c"),
            ("a\u{2028}b\u{2029}c", "a\\u2028b\\u2029c"),
            (
                "a\u{200b}\u{200c}\u{200d}\u{2060}\u{feff}\u{ad}b",
                "a\\u200b\\u200c\\u200d\\u2060\\ufeff\\u00adb",
            ),
            ("a\u{a0}\u{2003}\u{3000}b", "a\\u00a0\\u2003\\u3000b"),
            (
                "\u{e0041}\u{e01ef}\u{fe0f}",
                "\\udb40\\udc41\\udb40\\uddef\\ufe0f",
            ),
            ("\u{3164}\u{115f}\u{2800}", "\\u3164\\u115f\\u2800"),
            ("\u{fff9}\u{e000}\u{ffff}", "\\ufff9\\ue000\\uffff"),
            (
                "Jos\u{e9} M\u{fc}ller \u{65e5}\u{672c} \u{1f600} \u{5d0}",
                "Jos\u{e9} M\u{fc}ller \u{65e5}\u{672c} \u{1f600} \u{5d0}",
            ),
            // A mark after its letter is part of the letter; alone it would join the character before it.
            ("u\u{308}", "u\u{308}"),
            ("\u{308}u", "\\u0308u"),
        ];
        for (text, shown) in cases {
            assert_eq!(printable(text), shown, "{text:?}");
        }
    }

    #[test]
    fn a_json_text_means_the_same_as_before() {
        let text: String = (0..0x3000_u32)
            .chain(0xd7f0..0x1_1000)
            .chain(0xe_0000..0xe_0200)
            .filter_map(char::from_u32)
            .collect();
        let json = serde_json::to_string(&text).unwrap();
        let shown = printable(&json);
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        assert!(shown.chars().all(|c| !c.is_control()));
    }
}
