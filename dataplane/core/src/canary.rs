//! Canaries: small questions with known answers that the node itself puts to one worker, to see
//! whether it computes what it should. Each answer is exact: kernels give the same bits everywhere.

use wire::{
    Dtype, HEADER_LEN, Header, Kind, Operation, Work,
    payload::{QueryRequest, TensorWork},
    request::{self, RequestFrame},
    response::{self, Response},
};
use zerocopy::IntoBytes;

/// Longest answer of a canary, the header with it.
pub const ANSWER_MAX: usize = 4 << 10;

/// Columns of every question.
const COLS: u32 = 16;
/// Entries of the set that is asked for.
const K: u32 = 3;
/// Large values among zeros, so far apart that exp(x - max) is 0 in f32 and the logarithm of the
/// sum is exactly 0. The third place is a tie, which the lower column wins.
const LOGITS: [f32; COLS as usize] =
    [0.0, 0.0, 100.0, 0.0, 0.0, 125.0, 0.0, 0.0, 0.0, 100.0, 0.0, 250.0, 0.0, 0.0, 0.0, 0.0];
const INDICES: [u32; K as usize] = [11, 5, 2];
const VALUES: [f32; K as usize] = [250.0, 125.0, 100.0];
/// Whole numbers up to 127: the scale is exactly 1, and the codes are the numbers.
const CODES: [i8; COLS as usize] =
    [0, 1, -1, 2, -3, 5, -8, 13, -21, 34, -55, 89, -127, 127, 64, -32];

/// What a worker is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// Bytes that come back as they are: a ping through the worker's rings.
    Echo,
    /// The three largest of sixteen logits.
    TopK,
    /// A row in int8.
    Int8,
}

impl Canary {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 3] = [Self::Echo, Self::TopK, Self::Int8];

    /// As in figures.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::TopK => "topk",
            Self::Int8 => "int8",
        }
    }

    /// The operation that answers it.
    #[must_use]
    pub const fn operation(self) -> Operation {
        match self {
            Self::Echo => Operation::Echo,
            Self::TopK => Operation::TopK,
            Self::Int8 => Operation::Int8,
        }
    }

    fn rows(self) -> Vec<u8> {
        let floats = |row: &[f32]| row.iter().flat_map(|x| x.to_le_bytes()).collect();
        match self {
            Self::Echo => (0..COLS as u8).map(|i| i.wrapping_mul(37) ^ 0xA5).collect(),
            Self::TopK => floats(&LOGITS),
            Self::Int8 => floats(&CODES.map(f32::from)),
        }
    }

    /// The id in question and answer.
    const fn query_id(self) -> [u8; 16] {
        [self as u8 + 1; 16]
    }

    /// The payload of the question, and the work in it.
    fn question(self) -> Option<(Vec<u8>, Work)> {
        let work = match self {
            Self::Echo => TensorWork::echo(Dtype::U8, 1, COLS),
            Self::TopK => TensorWork::topk(Dtype::F32, 1, COLS, K, Dtype::F32),
            Self::Int8 => TensorWork::int8(Dtype::F32, 1, COLS),
        };
        let mut asked = QueryRequest { query_id: self.query_id(), work, ..QueryRequest::default() };
        let mut frame = Vec::new();
        RequestFrame::begin_with(&mut frame, &self.rows()).finish(&mut asked, 0, 0).ok()?;
        let payload = frame.split_off(HEADER_LEN);
        let (_, work) = request::work(aligned(&payload, &mut Scratch::default())?).ok()?;
        Some((payload, work))
    }

    /// Whether the tensors of an answer are the right ones.
    fn is_right(self, answer: &Response<'_>) -> bool {
        if answer.root.query_id != self.query_id() {
            return false;
        }
        let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        match (self, answer.echo, answer.logits, answer.hidden_states, answer.coded) {
            (Self::Echo, Some(echo), None, None, None) => echo.data == self.rows(),
            (Self::TopK, None, Some(set), None, None) => {
                let values: Vec<f32> = set.row_values_f32(0).collect();
                set.rows == 1
                    && set.row_indices(0) == INDICES
                    && bits(&values) == bits(&VALUES)
                    && bits(set.max) == bits(&[VALUES[0]])
                    && bits(set.log_sum) == bits(&[0.0])
                    && set.flags == [0]
            }
            (Self::Int8, None, None, Some(block), None) => {
                block.rows == 1
                    && block.codes == CODES
                    && bits(block.scales) == bits(&[1.0])
                    && block.flags == [0]
            }
            _ => false,
        }
    }

    /// Whether one frame is the right answer to this canary under this id.
    #[must_use]
    pub fn accepts(self, frame: &[u8], message_id: u64) -> bool {
        let Some((header, payload)) = frame.split_at_checked(HEADER_LEN) else { return false };
        let sound = Header::peek(header).is_some_and(|header| {
            header.check(payload.len() as u32).is_ok()
                && header.kind() == Ok(Kind::QueryResponse)
                && header.message_id() == message_id
                && header.payload_len() as usize == payload.len()
                && header.checksum() == wire::check::crc16(payload)
        });
        let mut scratch = Scratch::default();
        let payload = aligned(payload, &mut scratch).filter(|_| sound);
        let answer = payload.and_then(|payload| response::read(payload).ok());
        answer.is_some_and(|answer| self.is_right(&answer))
    }
}

/// Memory in which an archive of a canary can be read.
#[derive(Debug)]
struct Scratch([u128; ANSWER_MAX / 16]);

impl Default for Scratch {
    fn default() -> Self {
        Self([0; ANSWER_MAX / 16])
    }
}

/// A private copy, aligned; `None` where it is longer than any answer.
fn aligned<'a>(payload: &[u8], scratch: &'a mut Scratch) -> Option<&'a [u8]> {
    let place = scratch.0.as_mut_bytes().get_mut(..payload.len())?;
    place.copy_from_slice(payload);
    Some(place)
}

/// A canary as it is put into a slot.
#[derive(Debug)]
pub(crate) struct Question {
    pub payload: Vec<u8>,
    pub work: Work,
}

/// Every canary, made once.
#[derive(Debug)]
pub(crate) struct Questions([Option<Question>; Canary::ALL.len()]);

impl Default for Questions {
    fn default() -> Self {
        let make = |canary: Canary| canary.question();
        Self(Canary::ALL.map(|it| make(it).map(|(payload, work)| Question { payload, work })))
    }
}

impl Questions {
    pub(crate) const fn of(&self, canary: Canary) -> Option<&Question> {
        self.0[canary as usize].as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_02_every_canary_is_sound_work_that_fits_the_smallest_slots() {
        let questions = Questions::default();
        for canary in Canary::ALL {
            let question = questions.of(canary).expect("sound work");
            assert_eq!(question.work.operation, canary.operation());
            assert!(question.payload.len() < 512);
            assert!(wire::reply::reply_len(&question.work) < ANSWER_MAX as u64);
        }
    }

    #[test]
    fn health_02_what_is_no_answer_is_not_accepted() {
        for canary in Canary::ALL {
            assert!(!canary.accepts(&[], 1));
            assert!(!canary.accepts(&[0xA5; HEADER_LEN], 1));
            assert!(!canary.accepts(&[0; ANSWER_MAX + HEADER_LEN + 16], 1));
            let header = Header::new(Kind::QueryResponse, 1, 0, 0, wire::check::crc16(&[]));
            assert!(!canary.accepts(header.as_bytes(), 1));
        }
    }
}
