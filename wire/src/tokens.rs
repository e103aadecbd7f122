//! Token ids, packed (COMP-01, COMP-02): LEB128 with runs, fixed-width bits, or LEB128 of ranks by
//! frequency where both sides hold the same table, whichever is shortest.
//!
//! Layout: one byte of scheme, the number of ids as LEB128, then the scheme's body. Scheme 0: each
//! id as LEB128; the two bytes `80 00`, which no shortest LEB128 contains, followed by a LEB128
//! count repeat the id before them that many times more. Without runs the body is plain LEB128.
//! Scheme 1: one byte of width (0 to 32), then the ids in that many bits each, first id in the
//! lowest bits of the first byte, filled up with zero bits. Scheme 2: the table's hash as u64, then
//! as scheme 0 for the rank of each id in the table; an id that the table lacks is the number of
//! its ids plus the id.

mod ranks;

pub use ranks::{RANKS_MAX, Ranks};

/// Ids as LEB128 with runs.
pub const SCHEME_LEB128: u8 = 0;
/// Ids in a fixed number of bits.
pub const SCHEME_BITS: u8 = 1;
/// Ranks of ids as LEB128 with runs.
pub const SCHEME_RANKS: u8 = 2;

/// Bytes that name a table.
const HASH_LEN: usize = 8;

/// What repeats: a LEB128 of zero in two bytes, longer than it need be.
const ESCAPE: [u8; 2] = [0x80, 0x00];

/// Why bytes are not packed tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenFault {
    /// More ids than the caller allows.
    TooMany,
    /// The bytes end too early, or go on too long.
    Length,
    /// A number over 32 bits or not in its shortest form, a repetition of nothing, a width over 32,
    /// padding that is not zero.
    Invalid,
    /// A scheme byte outside the registry.
    Scheme,
    /// Packed with a table that the reader does not have.
    Ranks,
}

impl core::fmt::Display for TokenFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::TooMany => "more token ids than allowed",
            Self::Length => "the packed tokens are too short or too long",
            Self::Invalid => "the packed tokens hold an invalid number",
            Self::Scheme => "unknown token scheme",
            Self::Ranks => "the tokens are packed with another table of ranks",
        })
    }
}

impl core::error::Error for TokenFault {}

/// Appends `ids` in the shorter of the two schemes that need no table to `out` and returns how many
/// bytes that took. Equal lengths go to LEB128. No id fails to encode; more than `u32::MAX` of them
/// are cut there.
pub fn encode(ids: &[u32], out: &mut Vec<u8>) -> usize {
    encode_with(ids, None, out)
}

/// [`encode`], and by ranks where a table is given and makes it shorter.
pub fn encode_with(ids: &[u32], ranks: Option<&Ranks>, out: &mut Vec<u8>) -> usize {
    let ids = ids.get(..u32::MAX as usize).unwrap_or(ids);
    let start = out.len();
    out.push(SCHEME_LEB128);
    put_leb128(ids.len() as u64, out);
    let body = out.len();
    leb128_with_runs(ids, u64::from, out);
    let mut scheme = SCHEME_LEB128;
    if let Some(ranks) = ranks {
        let end = out.len();
        out.extend_from_slice(&ranks.hash().to_le_bytes());
        leb128_with_runs(ids, |id| ranks.number(id), out);
        if out.len() - end < end - body {
            out.drain(body..end);
            scheme = SCHEME_RANKS;
        } else {
            out.truncate(end);
        }
    }
    let width = 32 - ids.iter().fold(0, |all, id| all | id).leading_zeros();
    let bits_len = 1 + bits_len(ids.len(), width);
    if bits_len < out.len() - body {
        out.truncate(body);
        scheme = SCHEME_BITS;
        out.push(width as u8);
        put_bits(ids, width, out);
    }
    if let Some(first) = out.get_mut(start) {
        *first = scheme;
    }
    out.len() - start
}

/// Appends the packed ids to `out` and returns how many there are; at most `limit`.
///
/// # Errors
/// A [`TokenFault`]; `out` is then as it was.
pub fn decode(bytes: &[u8], limit: usize, out: &mut Vec<u32>) -> Result<usize, TokenFault> {
    decode_with(bytes, limit, None, out)
}

/// [`decode`], also of ids packed with this table.
///
/// # Errors
/// A [`TokenFault`]; `out` is then as it was.
pub fn decode_with(
    bytes: &[u8],
    limit: usize,
    ranks: Option<&Ranks>,
    out: &mut Vec<u32>,
) -> Result<usize, TokenFault> {
    let start = out.len();
    let (scheme, mut rest) = bytes.split_first().ok_or(TokenFault::Length)?;
    let count = get_leb128(&mut rest)?;
    let count = usize::try_from(count).map_err(|_| TokenFault::TooMany)?;
    if count > limit {
        return Err(TokenFault::TooMany);
    }
    let decoded = match *scheme {
        SCHEME_LEB128 => get_leb128_with_runs(rest, count, |id| u32::try_from(id).ok(), out),
        SCHEME_BITS => get_bits(rest, count, out),
        SCHEME_RANKS => get_ranks(rest, count, ranks, out),
        _ => Err(TokenFault::Scheme),
    };
    if let Err(fault) = decoded {
        out.truncate(start);
        return Err(fault);
    }
    Ok(count)
}

fn get_ranks(
    rest: &[u8],
    count: usize,
    ranks: Option<&Ranks>,
    out: &mut Vec<u32>,
) -> Result<(), TokenFault> {
    let (hash, rest) = rest.split_first_chunk::<HASH_LEN>().ok_or(TokenFault::Length)?;
    let hash = u64::from_le_bytes(*hash);
    let ranks = ranks.filter(|ranks| ranks.hash() == hash).ok_or(TokenFault::Ranks)?;
    get_leb128_with_runs(rest, count, |number| ranks.id(number), out)
}

/// Appends one unsigned LEB128 number in its shortest form.
pub fn put_leb128(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes one unsigned LEB128 number, in its shortest form, off the front of `bytes`.
///
/// # Errors `Length` where the bytes end within it, `Invalid` where it has more than 64 bits or is
/// longer than it need be.
pub fn get_leb128(bytes: &mut &[u8]) -> Result<u64, TokenFault> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(TokenFault::Length)?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7F);
        if bits << shift >> shift != bits {
            return Err(TokenFault::Invalid);
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            let shortest = *byte != 0 || shift == 0;
            return if shortest { Ok(value) } else { Err(TokenFault::Invalid) };
        }
    }
    Err(TokenFault::Invalid)
}

/// Bytes of a value's shortest LEB128.
const fn leb128_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn leb128_with_runs(ids: &[u32], number: impl Fn(u32) -> u64, out: &mut Vec<u8>) {
    for run in ids.chunk_by(|a, b| a == b) {
        let Some(id) = run.first() else { continue };
        let id = number(*id);
        let more = run.len() - 1;
        put_leb128(id, out);
        if more * leb128_len(id) > ESCAPE.len() + leb128_len(more as u64) {
            out.extend_from_slice(&ESCAPE);
            put_leb128(more as u64, out);
        } else {
            (0..more).for_each(|_| put_leb128(id, out));
        }
    }
}

fn get_leb128_with_runs(
    mut rest: &[u8],
    count: usize,
    id: impl Fn(u64) -> Option<u32>,
    out: &mut Vec<u32>,
) -> Result<(), TokenFault> {
    // An id takes a byte or a share of a run: room is made as ids come, not as they are claimed.
    let end = out.len() + count;
    let first = out.len();
    while out.len() < end {
        if let Some(after) = rest.strip_prefix(&ESCAPE) {
            rest = after;
            let more = usize::try_from(get_leb128(&mut rest)?).map_err(|_| TokenFault::TooMany)?;
            let before = out.get(first..).and_then(|new| new.last()).copied();
            let before = before.ok_or(TokenFault::Invalid)?;
            if more == 0 {
                return Err(TokenFault::Invalid);
            }
            if more > end - out.len() {
                return Err(TokenFault::Length);
            }
            out.resize(out.len() + more, before);
        } else {
            let number = get_leb128(&mut rest)?;
            out.push(id(number).ok_or(TokenFault::Invalid)?);
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(TokenFault::Length) }
}

const fn bits_len(count: usize, width: u32) -> usize {
    (count as u64 * width as u64).div_ceil(8) as usize
}

fn put_bits(ids: &[u32], width: u32, out: &mut Vec<u8>) {
    let (mut pending, mut bits) = (0_u64, 0);
    for id in ids {
        pending |= u64::from(*id) << bits;
        bits += width;
        while bits >= 8 {
            out.push(pending as u8);
            pending >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        out.push(pending as u8);
    }
}

fn get_bits(rest: &[u8], count: usize, out: &mut Vec<u32>) -> Result<(), TokenFault> {
    let (width, body) = rest.split_first().ok_or(TokenFault::Length)?;
    let width = u32::from(*width);
    if width > 32 {
        return Err(TokenFault::Invalid);
    }
    if body.len() != bits_len(count, width) {
        return Err(TokenFault::Length);
    }
    let (mut pending, mut bits) = (0_u64, 0);
    let mut bytes = body.iter();
    out.reserve(count);
    for _ in 0..count {
        while bits < width {
            let byte = bytes.next().ok_or(TokenFault::Length)?;
            pending |= u64::from(*byte) << bits;
            bits += 8;
        }
        out.push((pending & ((1 << width) - 1)) as u32);
        pending >>= width;
        bits -= width;
    }
    if pending == 0 { Ok(()) } else { Err(TokenFault::Invalid) }
}
