//! What a caller and an upstream do in one case.

/// A pause long enough for the proxy to process what came before it.
pub(super) const PAUSE_MS: u64 = 15;

/// One action on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Writes bytes.
    Write(Vec<u8>),
    /// Waits for this many milliseconds.
    Pause(u64),
    /// Reads this many more bytes.
    Read(usize),
    /// As the upstream: waits for the end of the request's body.
    AwaitBody,
    /// As the caller: waits until this much of the answer is there.
    Await(Progress),
    /// Closes the sending direction.
    Fin,
    /// Resets the connection.
    Reset,
}

/// How much of an answer a caller has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    Nothing,
    /// An interim answer.
    Interim,
    /// The head of the final answer.
    Head,
    /// All of it.
    Whole,
}

/// A request and the answer of the upstream to it.
#[derive(Clone, Debug)]
pub(super) struct Round {
    /// The actions of the caller. `{t}` in what is written is replaced by the path.
    pub(super) request: Vec<Step>,
    /// The actions of the upstream.
    pub(super) answer: Vec<Step>,
    /// Whether the upstream answers as soon as the head of the request is there, instead of after its body.
    pub(super) is_early: bool,
}

/// One or more requests to one upstream, each from a connection of its own.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) rounds: Vec<Round>,
}

impl Case {
    /// A case of one request, in the notation of [`steps`].
    pub(super) fn new(name: impl Into<String>, request: &str, answer: &str) -> Self {
        Self {
            name: name.into(),
            rounds: vec![Round::new(request, answer)],
        }
    }

    /// Adds another request after the others.
    pub(super) fn then(mut self, request: &str, answer: &str) -> Self {
        self.rounds.push(Round::new(request, answer));
        self
    }

    /// Makes the upstream answer before it has read the body.
    pub(super) fn early(mut self) -> Self {
        for round in &mut self.rounds {
            round.is_early = true;
        }
        self
    }
}

impl Round {
    fn new(request: &str, answer: &str) -> Self {
        Self {
            request: steps(request),
            answer: steps(answer),
            is_early: false,
        }
    }

    /// Returns the bytes that the caller writes.
    pub(super) fn request_bytes(&self) -> Vec<u8> {
        written(&self.request)
    }

    /// Returns the bytes that the upstream writes.
    pub(super) fn answer_bytes(&self) -> Vec<u8> {
        written(&self.answer)
    }

    /// Whether the upstream does something to the connection after a pause, when its answer may be complete.
    pub(super) fn acts_afterwards(&self) -> bool {
        let pause = self
            .answer
            .iter()
            .rposition(|step| matches!(step, Step::Pause(_)));
        pause.is_some_and(|place| place + 1 < self.answer.len())
    }

    /// Whether the upstream ends the connection.
    pub(super) fn ends(&self) -> bool {
        let is_end = |step: &Step| matches!(step, Step::Fin | Step::Reset);
        self.answer.iter().any(is_end)
    }
}

/// Returns all bytes that are written.
pub(super) fn written(steps: &[Step]) -> Vec<u8> {
    let pieces = steps.iter().filter_map(|step| match step {
        Step::Write(bytes) => Some(bytes.as_slice()),
        _ => None,
    });
    pieces.collect::<Vec<_>>().concat()
}

/// Reads the notation of the tables: characters up to U+00FF are bytes; `→` is a pause between two writes, `⇒` a pause
/// of half a second, `⊣` closes the sending direction, `✗` resets the connection, and `«` reads four bytes. `…` waits
/// for the end of the request's body; `①`, `②` and `③` wait for an interim answer, the head and the end of the answer.
pub(super) fn steps(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut bytes = Vec::new();
    for c in text.chars() {
        let step = match c {
            '→' => Step::Pause(PAUSE_MS),
            '⇒' => Step::Pause(500),
            '⊣' => Step::Fin,
            '✗' => Step::Reset,
            '«' => Step::Read(4),
            '…' => Step::AwaitBody,
            '①' => Step::Await(Progress::Interim),
            '②' => Step::Await(Progress::Head),
            '③' => Step::Await(Progress::Whole),
            c => {
                bytes.push(u8::try_from(u32::from(c)).unwrap());
                continue;
            }
        };
        push_write(&mut steps, &mut bytes);
        steps.push(step);
    }
    push_write(&mut steps, &mut bytes);
    steps
}

fn push_write(steps: &mut Vec<Step>, bytes: &mut Vec<u8>) {
    if !bytes.is_empty() {
        steps.push(Step::Write(std::mem::take(bytes)));
    }
}

/// Splits everything that is written into single bytes, with `pause_ms` between two.
pub(super) fn byte_by_byte(steps: &[Step], pause_ms: u64) -> Vec<Step> {
    let mut split = Vec::new();
    for step in steps {
        let Step::Write(bytes) = step else {
            split.push(step.clone());
            continue;
        };
        for byte in bytes {
            split.extend([Step::Write(vec![*byte]), Step::Pause(pause_ms)]);
        }
    }
    split
}

/// Splits what is written in two at this byte, with a pause between the parts.
pub(super) fn split_at(bytes: &[u8], place: usize) -> Vec<Step> {
    let (one, two) = bytes.split_at(place);
    vec![
        Step::Write(one.to_vec()),
        Step::Pause(3),
        Step::Write(two.to_vec()),
    ]
}
