//! Anything that can be written can be read back: requests, replies, headers, by generated cases.

use proptest::{collection::vec, prelude::*};
use rkyv::util::AlignedVec;
use wire::{
    Coding, Compression, Dtype, HEADER_LEN, Header, Kind, Operation, PayloadFault, Source, Work,
    frame, payload,
    payload::{QueryRequest, TensorWork, Text},
    reply, request, response,
};

fn aligned(bytes: &[u8]) -> AlignedVec<64> {
    let mut vec = AlignedVec::new();
    vec.extend_from_slice(bytes);
    vec
}

fn member<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    (0..all.len()).prop_map(move |at| all[at])
}

prop_compose! {
    fn texts()(list in vec(".{0,12}", 0..4)) -> Vec<Text> {
        list.into_iter().map(Text::from).collect()
    }
}

fn shown(list: &[Text]) -> Vec<&str> {
    list.iter().map(Text::as_str).collect()
}

fn coded_work(rows: u32) -> Work {
    Work {
        operation: Operation::Hidden,
        dtype: Dtype::F32,
        values: Dtype::F32,
        coding: Coding::Rotated,
        source: Source::Inline,
        quality: 0.5,
        streaming: false,
        k: 100,
        rows,
        cols: 384,
        data_offset: 0,
        data_len: rows * 384 * 4,
        check: None,
    }
}

proptest! {
    #[test]
    fn headers_come_back(
        kind in member(Kind::ALL),
        compression in member(Compression::ALL),
        message_id: u64,
        timestamp_ns: u64,
        payload_len: u32,
        checksum: u16,
    ) {
        let header = Header::new(kind, message_id, timestamp_ns, payload_len, checksum)
            .with_compression(compression);
        let bytes = zerocopy::IntoBytes::as_bytes(&header);
        let read = Header::peek(bytes).expect("32 bytes");
        prop_assert_eq!(read.kind(), Ok(kind));
        prop_assert_eq!(read.compression(), Ok(compression));
        prop_assert_eq!(read.message_id(), message_id);
        prop_assert_eq!(read.timestamp_ns(), timestamp_ns);
        prop_assert_eq!(read.payload_len(), payload_len);
        prop_assert_eq!(read.checksum(), checksum);
        prop_assert!(read.check(payload_len).is_ok());
        prop_assert_eq!(read.check(payload_len.saturating_sub(1)).is_ok(), payload_len == 0);
    }

    #[test]
    fn requests_come_back(
        rows in 1..9_u32,
        cols in 1..400_u32,
        dtype in member(Dtype::ALL),
        seed: u8,
        text in ".{0,40}",
        history in texts(),
        excluded in texts(),
        input_tokens in vec(any::<u32>(), 0..9),
        timeout_ms: u32,
        streaming: bool,
        message_id: u64,
    ) {
        let len = rows as usize * cols as usize * dtype.size();
        let data: Vec<u8> = (0..len).map(|at| (at as u8).wrapping_mul(31) ^ seed).collect();
        let mut value = QueryRequest {
            input_text: Text::from(text.as_str()),
            input_tokens,
            work: TensorWork::echo(dtype, rows, cols),
            streaming,
            ..Default::default()
        };
        value.context.conversation_history = history;
        value.routing_hint.exclude_workers = excluded;
        value.routing_hint.timeout_ms = timeout_ms;

        let mut out = Vec::new();
        let draft = request::RequestFrame::begin_with(&mut out, &data);
        let frame_len = draft.finish(&mut value, message_id, 9).expect("fits");
        prop_assert_eq!(frame_len, out.len());
        prop_assert_eq!(frame_len % 16, 0);

        let mut tail = Vec::new();
        let header = request::around(&data, &mut value, message_id, 9, &mut tail).expect("fits");
        let pieces = [zerocopy::IntoBytes::as_bytes(&header), &data[..], &tail].concat();
        prop_assert_eq!(&pieces, &out);

        let bytes = aligned(&out[HEADER_LEN..]);
        payload::open::<QueryRequest>(&bytes).expect("the inner check holds");
        let (root, work) = request::work(&bytes).expect("valid");
        prop_assert_eq!(request::rows(&bytes, &work), Some(&data[..]));
        prop_assert!(request::verify(&bytes, &work));
        prop_assert_eq!(work.streaming, streaming);
        prop_assert_eq!(&*root.input_text, &text);
        prop_assert_eq!(root.input_tokens.as_slice(), &value.input_tokens[..]);
        let read: Vec<&str> = root.context.conversation_history.iter().map(|t| &**t).collect();
        prop_assert_eq!(read, shown(&value.context.conversation_history));
        let read: Vec<&str> = root.routing_hint.exclude_workers.iter().map(|t| &**t).collect();
        prop_assert_eq!(read, shown(&value.routing_hint.exclude_workers));
        prop_assert_eq!(root.routing_hint.timeout_ms.to_native(), timeout_ms);
    }

    #[test]
    fn topk_replies_come_back(
        rows in 1..6_u32,
        k in 1..20_u32,
        cols in 20..90_u32,
        dtype in member(&[Dtype::F32, Dtype::F16, Dtype::Bf16]),
        seed: u32,
        dirt: u8,
    ) {
        let layout = reply::TopKReply::layout(rows, k, cols, dtype);
        let mut out = aligned(&[dirt; 8192]);
        let parts = layout.parts(&mut out[HEADER_LEN..]).expect("room");
        let count = |row: usize| (row as u32 + seed) % (k + 1);
        for (at, index) in parts.indices.iter_mut().enumerate() {
            *index = (at as u32).wrapping_mul(seed) % cols;
        }
        parts.values.iter_mut().enumerate().for_each(|(at, byte)| *byte = at as u8);
        for row in 0..rows as usize {
            parts.counts[row] = count(row);
            parts.max[row] = row as f32;
            parts.log_sum[row] = 0.5;
            parts.flags[row] = row as u8;
        }
        let chunk = reply::Chunk { index: 1, first_row: 2, rows, is_final: false };
        let stamp = reply::Stamp {
            message_id: 3,
            timestamp_ns: 4,
            query_id: [6; 16],
            operation: Operation::LmHead,
            compute_ns: 7,
            chunk,
        };
        let mut author = reply::Author::new("w-1", "cpu-avx2", "no AVX-512 here");
        let len = reply::finish(&mut out, &reply::Layout::TopK(layout), &mut author, &stamp);
        let len = len.expect("fits");
        let again = reply::finish(&mut out, &reply::Layout::TopK(layout), &mut author, &stamp);
        prop_assert_eq!(again, Ok(len), "an author can be used again");

        let bytes = aligned(&out[HEADER_LEN..len]);
        let read = response::read(&bytes).expect("valid");
        let set = read.logits.expect("a set");
        prop_assert_eq!((set.rows, set.k, set.cols, set.dtype), (rows, k, cols, dtype));
        for row in 0..rows as usize {
            let valid = count(row) as usize;
            let start = row * k as usize;
            let expected: Vec<u32> =
                (start..start + valid).map(|at| (at as u32).wrapping_mul(seed) % cols).collect();
            prop_assert_eq!(set.row_indices(row), &expected[..]);
            let size = dtype.size();
            let places = start * size..(start + valid) * size;
            let expected: Vec<u8> = places.map(|at| at as u8).collect();
            prop_assert_eq!(set.row_values(row), &expected[..]);
            let rest = &set.indices[start + valid..start + k as usize];
            prop_assert!(rest.iter().all(|index| *index == 0));
            let rest = &set.values[(start + valid) * size..(start + k as usize) * size];
            prop_assert!(rest.iter().all(|byte| *byte == 0));
            prop_assert_eq!(set.logsumexp(row), Some(row as f64 + 0.5));
        }
        prop_assert_eq!(read.root.streaming_chunk.first_row.to_native(), 2);
        prop_assert_eq!(&*read.root.metadata.capability_used, "lm-head");
    }

    #[test]
    fn coded_replies_come_back(
        lens in vec(0..500_usize, 1..6),
        coding in member(Coding::ALL),
        seed: u8,
        dirt: u8,
    ) {
        let is_plain = coding == Coding::Plain;
        let work = Work { coding, ..coded_work(lens.len() as u32) };
        let empty = reply::CodedReply::layout(work.rows, &work);
        let mut out = aligned(&[dirt; 8192]);
        let parts = empty.parts(&mut out[HEADER_LEN..]).expect("room");
        let most = coding.row_max(100, 384);
        let lens: Vec<usize> = lens.into_iter().map(|len| len.min(most)).collect();
        let mut end = 0;
        for (row, len) in lens.iter().enumerate() {
            parts.data[end..end + len].fill(seed.wrapping_add(row as u8));
            end += len;
            parts.ends[row] = end as u32;
            parts.flags[row] = row as u8;
        }
        let layout = reply::Layout::Coded(empty.filled(end, [seed; 32]));
        let chunk = reply::Chunk { index: 0, first_row: 0, rows: work.rows, is_final: true };
        let stamp = reply::Stamp {
            message_id: 3,
            timestamp_ns: 4,
            query_id: [6; 16],
            operation: work.operation,
            compute_ns: 7,
            chunk,
        };
        let mut author = reply::Author::new("w-1", "cpu", "asked for");
        let len = reply::finish(&mut out, &layout, &mut author, &stamp).expect("fits");
        prop_assert!(len as u64 <= reply::reply_len(&work) || is_plain);
        let bytes = aligned(&out[HEADER_LEN..len]);
        let read = response::read(&bytes);
        if is_plain {
            prop_assert_eq!(read.err(), Some(PayloadFault::Content), "nothing is coded plainly");
            return Ok(());
        }
        let rows = read.expect("valid").coded.expect("rows");
        prop_assert_eq!((rows.rows, rows.cols, rows.coding), (work.rows, 384, coding));
        prop_assert_eq!((rows.k, rows.quality), (if coding.is_set() { 100 } else { 0 }, 0.5));
        prop_assert_eq!(rows.basis, &[seed; 32]);
        for (row, len) in lens.iter().enumerate() {
            let expected = vec![seed.wrapping_add(row as u8); *len];
            prop_assert_eq!(rows.row(row), &expected[..]);
            prop_assert_eq!(rows.flags[row], row as u8);
        }
        prop_assert!(rows.row(lens.len()).is_empty());
    }

    #[test]
    fn wire_12_frames_are_the_same_however_the_stream_is_cut(
        sizes in vec(0..40_usize, 1..6),
        cut in 1..97_usize,
    ) {
        // Several frames in one stream, delivered `cut` bytes at a time to a reader that keeps what
        // it has.
        let mut stream = Vec::new();
        for (at, size) in sizes.iter().enumerate() {
            let text = Text::from("x".repeat(*size));
            let mut value = QueryRequest { input_text: text, ..Default::default() };
            let draft = request::RequestFrame::begin(&mut stream, 0);
            draft.finish(&mut value, at as u64, 0).expect("fits");
            stream.extend_from_slice(zerocopy::IntoBytes::as_bytes(&frame::ping(at as u64, 0)));
        }
        let (mut kept, mut seen) = (Vec::new(), Vec::new());
        for piece in stream.chunks(cut) {
            kept.extend_from_slice(piece);
            while let Some(header) = Header::peek(&kept).copied() {
                let len = HEADER_LEN + header.payload_len() as usize;
                if kept.len() < len {
                    break;
                }
                let frame: Vec<u8> = kept.drain(..len).collect();
                prop_assert!(header.check(1 << 20).is_ok());
                prop_assert_eq!(header.checksum(), wire::check::crc16(&frame[HEADER_LEN..]));
                if header.kind() == Ok(Kind::QueryRequest) {
                    let bytes = aligned(&frame[HEADER_LEN..]);
                    let (root, _) = request::work(&bytes).expect("valid");
                    seen.push(root.input_text.len());
                }
            }
        }
        prop_assert!(kept.is_empty());
        prop_assert_eq!(seen, sizes);
    }
}
