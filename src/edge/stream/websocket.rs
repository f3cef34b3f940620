//! Tracks the frames of a WebSocket on their way to the caller. The gateway may end the WebSocket only between two
//! frames: a close frame inside another frame would be read as a part of it.

/// A close frame with status 1001, going away (RFC 6455 sections 5.5.1 and 7.4.1).
pub(super) const GOING_AWAY: [u8; 4] = [0x88, 0x02, 0x03, 0xE9];

/// The start of the answer after which frames follow.
const SWITCH: &[u8; 12] = b"HTTP/1.1 101";
const HEAD_END: &[u8; 4] = b"\r\n\r\n";
/// The opcode of a close frame.
const CLOSE: u8 = 8;
/// Length of the longest frame head: flags, length, mask.
const FRAME_HEAD_BYTES_MAX: usize = 14;

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug)]
enum FramePosition {
    /// The head of an answer: its first bytes, and how many bytes of [`HEAD_END`] were just seen.
    Answer {
        line: [u8; SWITCH.len()],
        line_bytes: usize,
        end_bytes: usize,
    },
    /// A frame head of which `count` bytes are known. At 0, the stream is between two frames.
    FrameHead {
        bytes: [u8; FRAME_HEAD_BYTES_MAX],
        count: usize,
    },
    /// The payload of a frame, with this many bytes left.
    Payload(u64),
}

const ANSWER: FramePosition = FramePosition::Answer {
    line: [0; SWITCH.len()],
    line_bytes: 0,
    end_bytes: 0,
};
const FRAME: FramePosition = FramePosition::FrameHead {
    bytes: [0; FRAME_HEAD_BYTES_MAX],
    count: 0,
};

/// The frame state of a WebSocket, from the answer to its upgrade on.
#[derive(Clone, Copy, Debug)]
pub(super) struct WebSocket {
    place: FramePosition,
    has_closed: bool,
    /// Whether the gateway's close frame was sent: nothing may follow it.
    pub(super) is_parted: bool,
}

impl WebSocket {
    /// Creates the state before the answer that switches protocols; interim answers may precede it.
    pub(super) const fn new() -> Self {
        Self {
            place: ANSWER,
            has_closed: false,
            is_parted: false,
        }
    }

    /// Consumes bytes sent by the upstream.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = self.step(bytes);
            bytes = bytes.get(count..).unwrap_or_default();
        }
    }

    /// Returns how many of the next bytes belong to a frame or head that has begun. At 0, a frame may be inserted
    /// before them.
    pub(super) fn begun(&self, bytes: &[u8]) -> usize {
        let mut ahead = *self;
        let mut begun = 0;
        while begun < bytes.len() && !ahead.is_between_frames() {
            begun += ahead.step(bytes.get(begun..).unwrap_or_default());
        }
        begun
    }

    /// Whether the gateway may insert a close frame: between two frames, if neither side has sent one.
    pub(super) const fn may_part(&self) -> bool {
        self.is_between_frames() && !self.has_closed && !self.is_parted
    }

    const fn is_between_frames(&self) -> bool {
        matches!(self.place, FramePosition::FrameHead { count: 0, .. })
    }

    /// Consumes bytes up to the end of a head or a payload; returns their number.
    fn step(&mut self, bytes: &[u8]) -> usize {
        match &mut self.place {
            FramePosition::Payload(left) => {
                let count = usize::try_from(*left).map_or(bytes.len(), |it| it.min(bytes.len()));
                *left -= count as u64;
                if *left == 0 {
                    self.place = FRAME;
                }
                count
            }
            FramePosition::FrameHead { bytes: head, count } => {
                let Some((byte, place)) = bytes.first().zip(head.get_mut(*count)) else {
                    return bytes.len();
                };
                *place = *byte;
                *count += 1;
                if let Some(length) = payload_bytes(head, *count) {
                    self.has_closed |= head[0] & 0x0F == CLOSE;
                    self.place = if length == 0 {
                        FRAME
                    } else {
                        FramePosition::Payload(length)
                    };
                }
                1
            }
            FramePosition::Answer {
                line,
                line_bytes,
                end_bytes,
            } => {
                let Some(byte) = bytes.first() else {
                    return 0;
                };
                if let Some(place) = line.get_mut(*line_bytes) {
                    *place = *byte;
                    *line_bytes += 1;
                }
                if HEAD_END.get(*end_bytes) == Some(byte) {
                    *end_bytes += 1;
                } else {
                    *end_bytes = usize::from(*byte == b'\r');
                }
                if *end_bytes == HEAD_END.len() {
                    self.place = if line == SWITCH { FRAME } else { ANSWER };
                }
                1
            }
        }
    }
}

/// Returns the payload length of a frame, or `None` if its head is incomplete.
fn payload_bytes(head: &[u8; FRAME_HEAD_BYTES_MAX], count: usize) -> Option<u64> {
    let [_, second, ..] = *head;
    let short = second & 0x7F;
    let length_bytes = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let long = head.iter().skip(2).take(length_bytes);
    let length = match length_bytes {
        0 => u64::from(short),
        _ => long.fold(0, |length, byte| length << 8 | u64::from(*byte)),
    };
    let mask_bytes = if second & 0x80 == 0 { 0 } else { 4 };
    (2 <= count && 2 + length_bytes + mask_bytes <= count).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: usize, is_masked: bool) -> Vec<u8> {
        let mask = if is_masked { 0x80 } else { 0 };
        let mut frame = match payload {
            0..126 => vec![first, mask | u8::try_from(payload).unwrap()],
            126..65_536 => {
                let length = u16::try_from(payload).unwrap().to_be_bytes();
                [&[first, mask | 0x7E], length.as_slice()].concat()
            }
            _ => [
                &[first, mask | 0x7F],
                (payload as u64).to_be_bytes().as_slice(),
            ]
            .concat(),
        };
        frame.resize(frame.len() + payload + if is_masked { 4 } else { 0 }, 0x88);
        frame
    }

    #[test]
    fn a_close_frame_may_stand_where_a_frame_ends_and_nowhere_else() {
        let pieces = [
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".to_vec(),
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n".to_vec(),
            frame(0x81, 5, false),
            frame(0x01, 0, false),
            frame(0x80, 126, false),
            frame(0x89, 4, true),
            frame(0x82, 70_000, false),
        ];
        let sent = pieces.concat();
        // Boundaries of frames: after the 101, and after each frame.
        let mut ends = Vec::new();
        let mut end = 0;
        for (index, piece) in pieces.iter().enumerate() {
            end += piece.len();
            if 0 < index {
                ends.push(end);
            }
        }
        for cut in 0..sent.len() {
            let (before, after) = sent.split_at(cut);
            let mut websocket = WebSocket::new();
            websocket.feed(before);
            assert_eq!(websocket.may_part(), ends.contains(&cut), "{cut}");
            let next = ends.iter().find(|end| cut <= **end).unwrap();
            assert_eq!(websocket.begun(after), next - cut, "{cut}");
        }
    }

    #[test]
    fn who_was_closed_by_the_upstream_is_not_closed_again() {
        let mut websocket = WebSocket::new();
        websocket.feed(b"HTTP/1.1 101 x\r\n\r\n");
        assert!(websocket.may_part());
        websocket.feed(&[0x88, 0x02, 0x03]);
        assert!(!websocket.may_part());
        websocket.feed(&[0xE8]);
        assert!(!websocket.may_part());
    }
}
