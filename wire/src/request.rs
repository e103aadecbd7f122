//! Requests: writing rows straight into a frame, and reading a request on the hot path.

use crate::{
    CHECKED_PAYLOAD_MIN, Coding, DATA_ALIGN, Dtype, ErrorCode, HEADER_LEN, Header, Kind, Operation,
    Priority, Source, Work, check, frame,
    payload::{
        self, ArchivedQueryRequest, Full, Part, Payload, PayloadFault, QueryRequest, Sink, encode,
    },
};

/// Bytes of the root at the end of every QUERY_REQUEST.
pub const ROOT_LEN: usize = QueryRequest::ROOT_LEN;

/// Checks a payload as a request and gives it in place, with its numeric work checked as a whole.
///
/// The inner CRC-32C is not computed here but handed on in [`Work::check`]: whoever reads the rows
/// verifies it ([`verify`]), so that the check spans the whole way. Nothing is allocated.
///
/// # Errors `BadArchive` for bytes that are no such archive, `BadRequest`, `BadShape` or `BadK` for
/// work that cannot be done.
#[inline]
pub fn work(payload: &[u8]) -> Result<(&ArchivedQueryRequest, Work), ErrorCode> {
    let root = payload::access::<QueryRequest>(payload).map_err(PayloadFault::code)?;
    let stated = root.seal.check.to_native();
    let check = if payload.len() >= CHECKED_PAYLOAD_MIN {
        Some(stated)
    } else if stated == 0 {
        None
    } else {
        return Err(ErrorCode::BadRequest);
    };
    // The archive check has shown that the rows lie inside the payload.
    let offset = root.data.as_ptr().addr() - payload.as_ptr().addr();
    if !offset.is_multiple_of(DATA_ALIGN) && !root.data.is_empty() {
        return Err(ErrorCode::BadRequest);
    }
    if Priority::from_code(root.priority).is_none() {
        return Err(ErrorCode::BadRequest);
    }
    let fields = &root.work;
    let work = Work {
        operation: Operation::from_code(fields.operation).ok_or(ErrorCode::BadRequest)?,
        dtype: Dtype::from_code(fields.dtype).ok_or(ErrorCode::BadRequest)?,
        values: Dtype::from_code(fields.values).ok_or(ErrorCode::BadRequest)?,
        coding: Coding::from_code(fields.coding).ok_or(ErrorCode::BadRequest)?,
        source: Source::from_code(fields.source).ok_or(ErrorCode::BadRequest)?,
        quality: fields.quality.to_native(),
        streaming: root.streaming,
        k: fields.k.to_native(),
        rows: fields.rows.to_native(),
        cols: fields.cols.to_native(),
        data_offset: u32::try_from(offset).map_err(|_| ErrorCode::BadArchive)?,
        data_len: u32::try_from(root.data.len()).map_err(|_| ErrorCode::BadArchive)?,
        check,
    }
    .check()?;
    Ok((root, work))
}

/// The rows of checked work, or `None` where `payload` is not the one the work came from.
#[must_use]
pub fn rows<'a>(payload: &'a [u8], work: &Work) -> Option<&'a [u8]> {
    let start = work.data_offset as usize;
    payload.get(start..start.checked_add(work.data_len as usize)?)
}

/// Verifies the inner CRC-32C that the work states, over every byte before the root. True where
/// none is stated.
#[must_use]
pub fn verify(payload: &[u8], work: &Work) -> bool {
    let Some(stated) = work.check else { return true };
    let body = payload.len().checked_sub(ROOT_LEN).and_then(|len| payload.get(..len));
    body.is_some_and(|body| check::crc32c(body) == stated)
}

/// The query id of a payload that [`work`] has accepted; zero where it is too short to be one.
#[must_use]
pub fn query_id(payload: &[u8]) -> [u8; 16] {
    const FROM_END: usize = ROOT_LEN - core::mem::offset_of!(ArchivedQueryRequest, query_id);
    let at = payload.len().checked_sub(FROM_END);
    at.and_then(|at| payload.get(at..)?.first_chunk()).copied().unwrap_or_default()
}

/// The priority that a payload states, wherever it lies and whatever else is wrong with it; normal
/// where it states none. For whoever has to choose before there is room to check it.
#[must_use]
pub fn priority(payload: &[u8]) -> Priority {
    const FROM_END: usize = ROOT_LEN - core::mem::offset_of!(ArchivedQueryRequest, priority);
    let at = payload.len().checked_sub(FROM_END);
    let stated = at.and_then(|at| payload.get(at)).copied();
    stated.and_then(Priority::from_code).unwrap_or(Priority::Normal)
}

/// First eight bytes of the id of the basis that a payload asks for, which [`work`] has accepted;
/// all zero for any.
#[must_use]
pub fn basis(payload: &[u8]) -> [u8; 8] {
    const FROM_END: usize = ROOT_LEN - core::mem::offset_of!(ArchivedQueryRequest, work.basis);
    let at = payload.len().checked_sub(FROM_END);
    at.and_then(|at| payload.get(at..)?.first_chunk()).copied().unwrap_or_default()
}

/// A request's frame under construction: header room, then the rows, which the caller writes in
/// place.
#[derive(Debug)]
pub struct RequestFrame<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    data_len: usize,
}

impl<'a> RequestFrame<'a> {
    /// Appends room for a header and `data_len` zero bytes of rows.
    #[must_use]
    pub fn begin(out: &'a mut Vec<u8>, data_len: usize) -> Self {
        let start = out.len();
        out.resize(start + HEADER_LEN + data_len, 0);
        Self { out, start, data_len }
    }

    /// Appends room for a header and a copy of these rows.
    #[must_use]
    pub fn begin_with(out: &'a mut Vec<u8>, rows: &[u8]) -> Self {
        let start = out.len();
        out.reserve(HEADER_LEN + rows.len() + ROOT_LEN);
        out.resize(start + HEADER_LEN, 0);
        out.extend_from_slice(rows);
        Self { out, start, data_len: rows.len() }
    }

    /// The rows' bytes, to be written by the caller.
    #[must_use]
    pub fn data_mut(&mut self) -> &mut [u8] {
        let from = self.start + HEADER_LEN;
        self.out.get_mut(from..from + self.data_len).unwrap_or_default()
    }

    /// Writes the rest of `request` behind the rows, its `data` set to them, and the header.
    /// Returns the frame's length.
    ///
    /// # Errors
    /// [`Full`] for payloads of 2 GiB and more; the vector is then as it was before the frame.
    pub fn finish(
        self,
        request: &mut QueryRequest,
        message_id: u64,
        timestamp_ns: u64,
    ) -> Result<usize, Full> {
        let Self { out, start, data_len } = self;
        let mut seal = || {
            request.data = Part::new(0, u32::try_from(data_len).map_err(|_| Full)?);
            encode(request, Sink::vec(out, start + HEADER_LEN))?;
            let frame = out.get_mut(start..).ok_or(Full)?;
            frame::head(frame, Kind::QueryRequest, message_id, timestamp_ns)
        };
        let sealed = seal();
        if sealed.is_err() {
            out.truncate(start);
        }
        sealed
    }
}

/// For senders that leave the rows where they are: replaces `tail` by what follows the rows in the
/// payload, and returns the header. The frame is header, `rows`, `tail`, in that order.
///
/// # Errors
/// [`Full`] for payloads of 2 GiB and more.
pub fn around(
    rows: &[u8],
    request: &mut QueryRequest,
    message_id: u64,
    timestamp_ns: u64,
    tail: &mut Vec<u8>,
) -> Result<Header, Full> {
    // Encoded as if the rows were empty padding of the same remainder, then moved to their
    // distance: only the root's first pointer knows where the rows are, and it is written here.
    tail.clear();
    let data_len = u32::try_from(rows.len()).map_err(|_| Full)?;
    let lead = rows.len() % DATA_ALIGN;
    tail.resize(lead, 0);
    request.data = Part::new(0, 0);
    let encoded = encode(request, Sink::vec(tail, 0))?;
    let root = encoded - ROOT_LEN;
    let pointer = i64::try_from(rows.len() - lead + root).map_err(|_| Full)?;
    let pointer = i32::try_from(-pointer).map_err(|_| Full)?;
    let payload_len = rows.len() - lead + encoded;
    let field = tail.get_mut(root..).and_then(|root| root.first_chunk_mut::<8>()).ok_or(Full)?;
    let (offset, len) = field.split_at_mut(4);
    offset.copy_from_slice(&pointer.to_le_bytes());
    len.copy_from_slice(&data_len.to_le_bytes());
    tail.drain(..lead);
    let body = tail.len() - ROOT_LEN;
    let check = if payload::is_checked(payload_len) {
        check::crc32c_of(&[rows, tail.get(..body).unwrap_or_default()])
    } else {
        0
    };
    let at = tail.len() - payload::SEAL_LEN;
    if let Some(seal) = tail.get_mut(at..at + 4) {
        seal.copy_from_slice(&check.to_le_bytes());
    }
    let payload_len = u32::try_from(payload_len).map_err(|_| Full)?;
    let checksum = check::crc16_of(&[rows, tail]);
    Ok(Header::new(Kind::QueryRequest, message_id, timestamp_ns, payload_len, checksum))
}

const _: () = assert!(core::mem::offset_of!(ArchivedQueryRequest, data) == 0);
