//! Body framing: the end of a body, and the grammar of its chunks.
//!
//! Source: RFC 9112 sections 6.3 and 7.1.

use crate::model::deny::DenyReason;
use crate::route::head::is_token;

/// Maximum hex digits of a chunk size: fits a `u64` with room to spare.
const SIZE_DIGITS_MAX: usize = 15;
/// Maximum length of a chunk-size line with its extensions, in bytes.
const SIZE_LINE_BYTES_MAX: usize = 256;

/// The way in which the end of a body is determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By its length; 0 if there is none.
    Length(u64),
    /// By a last chunk.
    Chunked,
}

/// The progress of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyProgress {
    /// All bytes belong to the body, and more follow.
    More,
    /// The body ends after this many of the bytes.
    Ends(usize),
}

/// The expected next byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyStep {
    /// A hex digit of a chunk size, or the byte after it.
    Size { digits: usize, value: u64 },
    /// White space between a size and its extensions.
    Space { value: u64 },
    /// A chunk's extension.
    Extension { value: u64 },
    /// The line feed after a size.
    SizeEnd { value: u64 },
    /// Data, this many bytes.
    Data { left: u64 },
    /// The carriage return after a chunk's data.
    DataReturn,
    /// The line feed after a chunk's data.
    DataEnd,
    /// A trailer's first byte, or the carriage return of the last line.
    Trailer,
    /// Another byte of a trailer's name.
    TrailerName,
    /// A trailer's value.
    TrailerValue,
    /// The line feed after a trailer.
    TrailerEnd,
    /// The final line feed.
    LastEnd,
}

/// The start of a chunk.
const CHUNK: BodyStep = BodyStep::Size {
    digits: 0,
    value: 0,
};

/// A checker of one HTTP/1 body as it arrives.
#[derive(Debug)]
pub struct BodyCheck {
    is_chunked: bool,
    next: BodyStep,
    /// Bytes of the current line, or of all trailers.
    line_bytes: usize,
    trailer_bytes_max: usize,
}

impl BodyCheck {
    /// Creates a checker; `trailer_bytes_max` limits all trailers of a chunked body together.
    #[must_use]
    pub const fn new(framing: Framing, trailer_bytes_max: usize) -> Self {
        let (is_chunked, next) = match framing {
            Framing::Length(left) => (false, BodyStep::Data { left }),
            Framing::Chunked => (true, CHUNK),
        };
        Self {
            is_chunked,
            next,
            line_bytes: 0,
            trailer_bytes_max,
        }
    }

    /// Checks the next bytes of the body.
    ///
    /// # Errors
    /// [`DenyReason::RequestMalformed`] if chunks violate the grammar, [`DenyReason::HeadTooLarge`] for too many
    /// trailers; must not be called again after an error.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<BodyProgress, DenyReason> {
        let mut at = 0;
        loop {
            if let BodyStep::Data { left } = self.next {
                let here = bytes.len() - at;
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(here);
                at += taken;
                let left = left - taken as u64;
                self.next = BodyStep::Data { left };
                if 0 < left {
                    return Ok(BodyProgress::More);
                }
                if !self.is_chunked {
                    return Ok(BodyProgress::Ends(at));
                }
                self.next = BodyStep::DataReturn;
            }
            let Some(byte) = bytes.get(at) else {
                return Ok(BodyProgress::More);
            };
            at += 1;
            if self.step(*byte)? {
                return Ok(BodyProgress::Ends(at));
            }
        }
    }

    /// Processes one byte that is not data; `true`: it was the last one.
    fn step(&mut self, byte: u8) -> Result<bool, DenyReason> {
        self.line_bytes += 1;
        self.next = match (self.next, byte) {
            (BodyStep::LastEnd, b'\n') => return Ok(true),
            (BodyStep::Size { digits, value }, _) => after_size(digits, value, byte)?,
            (BodyStep::Space { value }, b' ' | b'\t') => BodyStep::Space { value },
            (BodyStep::Space { value }, b';') => BodyStep::Extension { value },
            (BodyStep::Extension { value }, b'\r') => BodyStep::SizeEnd { value },
            (BodyStep::Extension { value }, _) if is_text(byte) => BodyStep::Extension { value },
            (BodyStep::SizeEnd { value }, b'\n') => {
                self.line_bytes = 0;
                match value {
                    0 => BodyStep::Trailer,
                    left => BodyStep::Data { left },
                }
            }
            (BodyStep::DataReturn, b'\r') => BodyStep::DataEnd,
            (BodyStep::DataEnd, b'\n') => {
                self.line_bytes = 0;
                CHUNK
            }
            (BodyStep::Trailer, b'\r') => BodyStep::LastEnd,
            (BodyStep::TrailerName, b':') => BodyStep::TrailerValue,
            (BodyStep::Trailer | BodyStep::TrailerName, _) if is_token(byte) => {
                BodyStep::TrailerName
            }
            (BodyStep::TrailerValue, b'\r') => BodyStep::TrailerEnd,
            (BodyStep::TrailerValue, _) if is_text(byte) => BodyStep::TrailerValue,
            (BodyStep::TrailerEnd, b'\n') => BodyStep::Trailer,
            _ => return Err(DenyReason::RequestMalformed),
        };
        self.check_line()
    }

    fn check_line(&self) -> Result<bool, DenyReason> {
        match self.next {
            BodyStep::Space { .. } | BodyStep::Extension { .. }
                if SIZE_LINE_BYTES_MAX < self.line_bytes =>
            {
                Err(DenyReason::RequestMalformed)
            }
            BodyStep::TrailerName | BodyStep::TrailerValue
                if self.trailer_bytes_max < self.line_bytes =>
            {
                Err(DenyReason::HeadTooLarge)
            }
            _ => Ok(false),
        }
    }
}

/// Processes a byte at the position of a size digit, after `digits` of them.
fn after_size(digits: usize, value: u64, byte: u8) -> Result<BodyStep, DenyReason> {
    if let Some(digit) = char::from(byte).to_digit(16) {
        return if digits < SIZE_DIGITS_MAX {
            Ok(BodyStep::Size {
                digits: digits + 1,
                value: value << 4 | u64::from(digit),
            })
        } else {
            Err(DenyReason::RequestMalformed)
        };
    }
    match byte {
        _ if digits == 0 => Err(DenyReason::RequestMalformed),
        b'\r' => Ok(BodyStep::SizeEnd { value }),
        b';' => Ok(BodyStep::Extension { value }),
        b' ' | b'\t' => Ok(BodyStep::Space { value }),
        _ => Err(DenyReason::RequestMalformed),
    }
}

/// Whether a byte is allowed in a field value or an extension: no control character except the tab.
const fn is_text(byte: u8) -> bool {
    byte == b'\t' || (0x20 <= byte && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunked(body: &str) -> Result<BodyProgress, DenyReason> {
        BodyCheck::new(Framing::Chunked, 64).feed(body.as_bytes())
    }

    #[test]
    fn sound_chunks_end_where_they_end() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "A\r\n0123456789\r\n00\r\n\r\n",
            "5;a=b;c=\"d e\"\r\nhello\r\n0;x\r\n\r\n",
            "5 \t;a\r\nhello\r\n0\r\n\r\n",
            "0\r\nX-Trailer: y\r\nB:\r\n\r\n",
        ] {
            let ends = Ok(BodyProgress::Ends(body.len()));
            assert_eq!(chunked(body), ends, "{body:?}");
            assert_eq!(
                chunked(&format!("{body}GET / HTTP/1.1\r\n")),
                ends,
                "{body:?}"
            );
            let cut = body.get(..body.len() - 1).unwrap();
            assert_eq!(chunked(cut), Ok(BodyProgress::More), "{cut:?}");
        }
    }

    #[test]
    fn doubtful_chunks_are_refused() {
        let long_extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(300));
        for body in [
            "-1\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            ";a\r\nhello\r\n0\r\n\r\n",
            "FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
            "4\r\nhello\r\n0\r\n\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello\r0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\rhello\r\n0\r\n\r\n",
            "5;\rx\r\nhello\r\n0\r\n\r\n",
            "5;\0\r\nhello\r\n0\r\n\r\n",
            "5;\n\r\nhello\r\n0\r\n\r\n",
            "0\r\n\n",
            "0\r\n: y\r\n\r\n",
            "0\r\nX : y\r\n\r\n",
            "0\r\n X: y\r\n\r\n",
            "0\r\nX: \0\r\n\r\n",
            "0\r\nX\r\n\r\n",
            &long_extension,
        ] {
            assert_eq!(chunked(body), Err(DenyReason::RequestMalformed), "{body:?}");
        }
        let trailers = format!("0\r\n{}\r\n", "X: y\r\n".repeat(20));
        assert_eq!(chunked(&trailers), Err(DenyReason::HeadTooLarge));
    }

    #[test]
    fn lengths_are_counted() {
        let feed = |length, bytes: &[u8]| BodyCheck::new(Framing::Length(length), 0).feed(bytes);
        assert_eq!(feed(0, b"GET"), Ok(BodyProgress::Ends(0)));
        assert_eq!(feed(5, b"hello"), Ok(BodyProgress::Ends(5)));
        assert_eq!(feed(5, b"hello world"), Ok(BodyProgress::Ends(5)));
        assert_eq!(feed(5, b"hell"), Ok(BodyProgress::More));
        assert_eq!(feed(5, b""), Ok(BodyProgress::More));
    }

    proptest! {
        /// The result is the same whether a body arrives at once or in pieces.
        #[test]
        fn pieces_do_not_matter(
            body in proptest::collection::vec(
                prop::sample::select(vec!["5\r\nhello\r\n", "0\r\n\r\n", "1", "\r\n", "\r", "\n", ";a", " ", "X: y\r\n"]),
                0..8,
            ),
            cut in 0..40_usize,
        ) {
            let body = body.concat();
            let (first, rest) = body.as_bytes().split_at(cut.min(body.len()));
            let mut check = BodyCheck::new(Framing::Chunked, 64);
            let pieced = match check.feed(first) {
                Ok(BodyProgress::More) => check.feed(rest).map(|progress| match progress {
                    BodyProgress::Ends(count) => BodyProgress::Ends(first.len() + count),
                    BodyProgress::More => BodyProgress::More,
                }),
                other => other,
            };
            prop_assert_eq!(pieced, chunked(&body));
        }
    }
}
