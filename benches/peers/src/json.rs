//! Top-k log-probabilities as text: an ordinary axum server that gets rows of logits, computes with
//! the kernels that our worker computes with, and answers a completion as the OpenAI API has it
//! (its older form, the shorter of the two).

use crate::samples;
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
    serve::ListenerExt,
};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use kernels::{Row, topk::TopK};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use std::{
    collections::HashMap,
    io::{Read, Write},
};

/// Decimals of a number that is not rounded.
pub(crate) const ALL_DIGITS: u32 = 99;
/// Longest body that the server takes, and longest answer that a client restores.
const LONGEST: usize = 16 << 20;

/// The best entries of a row as log-probabilities, and the row's normaliser.
#[derive(Clone, Debug, Default)]
pub(crate) struct Top {
    pub(crate) indices: Vec<u32>,
    pub(crate) values: Vec<f32>,
    pub(crate) max: f32,
    pub(crate) log_sum: f32,
}

#[derive(Serialize)]
struct Completion {
    id: &'static str,
    object: &'static str,
    created: u64,
    model: &'static str,
    choices: [Choice; 1],
}

#[derive(Serialize)]
struct Choice {
    index: u32,
    text: &'static str,
    finish_reason: &'static str,
    logprobs: Logprobs,
}

#[derive(Serialize)]
struct Logprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<f64>,
    top_logprobs: Vec<Entries>,
}

/// `{"token_id:17": -0.25, ...}`: there is no text for the tokens of the samples, and servers have
/// this form for tokens without one.
struct Entries(Vec<(u32, f64)>);

impl Serialize for Entries {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (index, value) in &self.0 {
            map.serialize_entry(&format!("token_id:{index}"), value)?;
        }
        map.end()
    }
}

/// Serves until it is killed.
pub(crate) async fn serve() -> Result<(), String> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await;
    let listener = listener.map_err(|error| error.to_string())?;
    println!("listening {}", listener.local_addr().map_err(|error| error.to_string())?);
    let app = Router::new()
        .route("/v1/completions/{dtype}/{cols}/{k}/{decimals}", post(complete))
        .layer(DefaultBodyLimit::max(LONGEST));
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await.map_err(|error| error.to_string())
}

async fn complete(
    Path((dtype, cols, k, decimals)): Path<(String, usize, usize, u32)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = match completion(&dtype, cols, k, decimals, &body) {
        Ok(text) => text,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    let kind = (header::CONTENT_TYPE, "application/json");
    let wanted = headers.get(header::ACCEPT_ENCODING).is_some_and(|it| it == "gzip");
    if !wanted {
        return ([kind], text).into_response();
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    match packed.write_all(&text).and_then(|()| packed.finish()) {
        Ok(packed) => ([kind, (header::CONTENT_ENCODING, "gzip")], packed).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn completion(
    dtype: &str,
    cols: usize,
    k: usize,
    decimals: u32,
    body: &[u8],
) -> Result<Vec<u8>, String> {
    let element = samples::element(dtype).ok_or_else(|| format!("no element type {dtype}"))?;
    let len = cols.checked_mul(element.size()).filter(|len| *len > 0).ok_or("no columns")?;
    if k == 0 || k > 1_024 || body.is_empty() || !body.len().is_multiple_of(len) {
        return Err(format!("{} bytes are no rows of {cols} {dtype}, or k = {k}", body.len()));
    }
    let mut topk = TopK::new();
    let (mut indices, mut values) = (vec![0; k], vec![0.0; k]);
    let mut logprobs =
        Logprobs { tokens: Vec::new(), token_logprobs: Vec::new(), top_logprobs: Vec::new() };
    for row in body.chunks_exact(len) {
        let row = Row::from_bytes(element, row).ok_or("half an element")?;
        let found = topk.run(row, k, &mut indices, &mut values);
        let top: Vec<(u32, f64)> = indices
            .iter()
            .zip(&values)
            .take(found.count as usize)
            .map(|(index, value)| (*index, printed(value - found.max - found.log_sum, decimals)))
            .collect();
        let (best, value) = top.first().copied().ok_or("a row without a number")?;
        logprobs.tokens.push(format!("token_id:{best}"));
        logprobs.token_logprobs.push(value);
        logprobs.top_logprobs.push(Entries(top));
    }
    let choice = Choice { index: 0, text: "", finish_reason: "length", logprobs };
    let completion = Completion {
        id: "cmpl-0",
        object: "text_completion",
        created: 0,
        model: "sample",
        choices: [choice],
    };
    serde_json::to_vec(&completion).map_err(|error| error.to_string())
}

/// The f64 whose shortest text is that of the f32, or of the value rounded to so many decimals.
fn printed(value: f32, decimals: u32) -> f64 {
    if decimals == ALL_DIGITS {
        return value.to_string().parse().unwrap_or(f64::from(value));
    }
    let unit = 10_f64.powi(decimals.min(15).cast_signed());
    (f64::from(value) * unit).round() / unit
}

#[derive(Deserialize)]
struct ReadCompletion {
    choices: Vec<ReadChoice>,
}

#[derive(Deserialize)]
struct ReadChoice {
    logprobs: ReadLogprobs,
}

#[derive(Deserialize)]
struct ReadLogprobs {
    top_logprobs: Vec<HashMap<String, f32>>,
}

/// Reads an answer as a client does. Entries come in no order.
pub(crate) fn read(body: &[u8], is_packed: bool) -> Result<Vec<Top>, String> {
    let mut restored = Vec::new();
    let body = if is_packed {
        let mut unpacked = GzDecoder::new(body).take(LONGEST as u64);
        unpacked.read_to_end(&mut restored).map_err(|error| error.to_string())?;
        &restored
    } else {
        body
    };
    let answer: ReadCompletion = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let choice = answer.choices.into_iter().next().ok_or("an answer without a choice")?;
    let rows = choice.logprobs.top_logprobs.into_iter().map(|entries| {
        let mut top = Top::default();
        for (token, value) in entries {
            let index = token.strip_prefix("token_id:").and_then(|it| it.parse().ok());
            top.indices.push(index.ok_or_else(|| format!("a token `{token}`"))?);
            top.values.push(value);
        }
        // Log-probabilities are normalised: their normaliser is 0.
        Ok(top)
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::Logits;

    #[test]
    fn text_says_what_the_kernels_found() {
        let logits = Logits::all().expect("samples").remove(0).first(2);
        for (decimals, rounding) in [(ALL_DIGITS, 0.0), (6, 5.1e-7)] {
            let text = completion("f32", logits.cols, 100, decimals, &logits.bytes).expect("rows");
            let tops = read(&text, false).expect("json");
            assert_eq!(tops.len(), 2);
            for (at, top) in tops.iter().enumerate() {
                let (mut indices, mut values) = ([0; 100], [0.0; 100]);
                let row = logits.row(at).expect("a row");
                let found = TopK::new().run(row, 100, &mut indices, &mut values);
                assert_eq!(top.indices.len(), 100);
                for (index, value) in indices.iter().zip(values) {
                    let place = top.indices.iter().position(|i| i == index).expect("an index");
                    let expected = value - found.max - found.log_sum;
                    let off = f64::from(top.values[place]) - f64::from(expected);
                    // What is read back is the nearest f32 of the text.
                    let nearest = f64::from(expected.abs() * f32::EPSILON) / 2.0;
                    let error = if rounding > 0.0 { rounding + nearest } else { 0.0 };
                    assert!(off.abs() <= error, "{off}");
                }
            }
        }
    }

    #[test]
    fn bad_rows_are_refused() {
        for (dtype, cols, k, len) in
            [("f64", 4, 1, 32), ("f32", 0, 1, 16), ("f32", 4, 0, 16), ("f32", 4, 1, 17)]
        {
            assert!(completion(dtype, cols, k, 6, &vec![0; len]).is_err(), "{dtype} {cols} {k}");
        }
        assert!(completion("f32", usize::MAX, 1, 6, &[0; 16]).is_err());
        assert!(read(b"{}", false).is_err() && read(b"{}", true).is_err());
    }
}
