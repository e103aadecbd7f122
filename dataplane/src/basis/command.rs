//! `butterfly basis`.

use super::{fetch, read};
use crate::{
    cli::BasisArgs, failure::Failure, reach::Reach, say, table, tensors::PartFile, units::Bytes,
};
use codec::basis::Basis;
use serde_json::{Value, json};
use std::time::Duration;

/// How long a node may refuse for reasons that pass.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the command.
pub(crate) fn run(args: &BasisArgs) -> Result<(), Failure> {
    let (basis, file) = match (&args.input, &args.addr, &args.out) {
        (Some(input), _, _) => (read(input).map_err(Failure::Setup)?, input),
        (None, Some(addr), Some(out)) => {
            let basis = fetch(&Reach::new(addr, &args.security)?, PATIENCE)?;
            PartFile::write_whole(out, basis.as_bytes()).map_err(Failure::run)?;
            (basis, out)
        }
        _ => return Err(Failure::setup("say --in FILE, or --addr NODE and --out FILE")),
    };
    let mut report = describe(&basis);
    report["file"] = json!(file.display().to_string());
    if args.json {
        say::out(format!("{report:#}"));
    } else {
        say::out(as_text(&report));
    }
    Ok(())
}

/// What is worth knowing of a basis.
pub(crate) fn describe(basis: &Basis) -> Value {
    let parts = basis.parts();
    json!({
        "id": basis.id().to_string(),
        "width": basis.width(),
        "tensor": parts.tensor,
        "rows_learned": parts.rows,
        "outliers": parts.outliers,
        "rotation": basis.has_rotation(),
        "rank": parts.rank,
        "bytes": basis.as_bytes().len(),
    })
}

fn as_text(report: &Value) -> String {
    let text = |key: &str| match &report[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let outliers = report["outliers"].as_array().map_or(&[][..], Vec::as_slice);
    const SHOWN: usize = 8;
    let mut channels: Vec<String> = outliers.iter().take(SHOWN).map(Value::to_string).collect();
    if outliers.len() > SHOWN {
        channels.push("...".to_owned());
    }
    let outliers = match outliers.len() {
        0 => "none".to_owned(),
        count => format!("{} ({})", say::count(count as u64, "channel"), channels.join(", ")),
    };
    let rank = match report["rank"].as_u64() {
        None | Some(0) => "none named: pca is off".to_owned(),
        Some(rank) => format!("{rank} of {} dimensions", text("width")),
    };
    let rotation = if report["rotation"] == true { "yes" } else { "no: rotated is off" };
    let rows = [
        ["what", "value"].map(str::to_owned),
        ["basis".to_owned(), text("id")],
        ["width".to_owned(), text("width")],
        ["learned from".to_owned(), format!("{} rows of {}", text("rows_learned"), text("tensor"))],
        ["outliers, kept in f16".to_owned(), outliers],
        ["rotation".to_owned(), rotation.to_owned()],
        ["rank of pca".to_owned(), rank],
        ["bytes".to_owned(), Bytes(report["bytes"].as_u64().unwrap_or(0)).to_string()],
        ["file".to_owned(), text("file")],
    ];
    table::plain(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use codec::basis::Parts;

    #[test]
    fn a_basis_is_described_by_what_it_holds() {
        let parts = Parts {
            mean: vec![0.0; 4],
            scale: vec![1.0; 4],
            outliers: vec![2],
            rows: 7,
            tensor: "hidden".to_owned(),
            ..Parts::default()
        };
        let report = describe(&Basis::new(parts).expect("valid"));
        assert_eq!((&report["width"], &report["rotation"]), (&4.into(), &false.into()));
        let text = as_text(&report);
        for part in ["7 rows of hidden", "1 channel (2)", "pca is off", "rotated is off"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
