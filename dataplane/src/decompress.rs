//! `butterfly decompress`: coded rows of a file back to tensors.

use crate::{
    basis,
    cli::DecompressArgs,
    coded::{Block, CodedFile, Decoded, Decoder, Label},
    compress::{
        Flagged, JUDGED, as_written, count_flags, fidelity_lines, flag_lines, flag_report,
        push_set, set_columns,
    },
    failure::Failure,
    judge::Judge,
    progress,
    reach::Reach,
    say, table,
    tensors::{Column, Rows, TensorFile, Writer},
    units::Bytes,
};
use codec::basis::{Basis, BasisId};
use safetensors::Dtype as FileDtype;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long a node may refuse for reasons that pass.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the command.
pub(crate) fn run(args: &DecompressArgs) -> Result<(), Failure> {
    let file = CodedFile::open(&args.input).map_err(Failure::setup)?;
    let original = args.original.as_deref().map(TensorFile::open).transpose();
    let original = original.map_err(Failure::setup)?;
    let original = original.as_ref().map(|original| same(&file.label, original)).transpose()?;
    let basis = obtain(args, &file.label)?;
    let columns = match file.label.coding.is_set() {
        true => set_columns(file.label.rows() as usize, file.label.k),
        false => vec![Column {
            name: file.label.tensor.clone().into(),
            dtype: FileDtype::F32,
            shape: file.label.shape.clone(),
        }],
    };
    let writer = Writer::create(&args.out, &columns).map_err(Failure::setup)?;
    let started = Instant::now();
    let mut run = Restoring { writer, judge: Judge::new(), flagged: Flagged::default() };
    run.all(args, &file, basis.as_ref(), original.as_ref())?;
    run.writer.finish().map_err(Failure::run)?;
    let mut report = describe(&file, started.elapsed().as_secs_f64());
    report["flagged_rows"] = flag_report(&run.flagged).into();
    report["out"] = json!(args.out.display().to_string());
    let fidelity = match (file.label.coding.is_set(), original) {
        (true, _) => run.judge.topk_report(),
        (false, Some(_)) => run.judge.hidden_report(),
        (false, None) => Vec::new(),
    };
    for (key, value) in fidelity {
        report[key] = value;
    }
    say::out(if args.json { format!("{report:#}") } else { as_text(&report) });
    Ok(())
}

/// What is under way.
struct Restoring {
    writer: Writer,
    judge: Judge,
    flagged: Flagged,
}

impl Restoring {
    fn all(
        &mut self,
        args: &DecompressArgs,
        file: &CodedFile,
        basis: Option<&Basis>,
        original: Option<&Rows<'_>>,
    ) -> Result<(), Failure> {
        let label = &file.label;
        let bar = progress::rows(label.rows(), args.json);
        let mut decoder = Decoder::new(label.coding, label.k, label.cols(), basis);
        let mut block = Block::default();
        let mut columns: [Vec<u8>; 3] = Default::default();
        let mut row = Vec::new();
        let judge_every = label.rows().div_ceil(JUDGED).max(1);
        while file.read(block.first + block.flags.len() as u64, &mut block).map_err(Failure::run)? {
            columns.iter_mut().for_each(Vec::clear);
            for (at, bytes) in (block.first..).zip(block.rows()) {
                let decoded = decoder.row(bytes).map_err(|fault| {
                    Failure::run(format!("row {at} cannot be decoded: {fault}"))
                })?;
                let judged = at.is_multiple_of(judge_every);
                if let (true, Some(original)) = (judged, original) {
                    original.read(at, 1, &mut row).map_err(Failure::run)?;
                }
                let before = original.map(|original| (original.dtype, &row[..]));
                match decoded {
                    Decoded::Set(set) => {
                        let log_sum_exp = f64::from(set.max) + f64::from(set.log_sum);
                        let values = set.values.iter().copied();
                        let k = label.k as usize;
                        push_set(&mut columns, k, (&set.indices, values), log_sum_exp);
                        if judged {
                            self.judge.coded_set(set, before);
                        }
                    }
                    Decoded::Hidden(found) => {
                        columns[0].extend(found.iter().flat_map(|x| x.to_le_bytes()));
                        if let (true, Some((dtype, bytes))) = (judged, before) {
                            self.judge.hidden(found, dtype, bytes);
                        }
                    }
                }
            }
            self.write(label, &block, &columns).map_err(Failure::run)?;
            count_flags(&mut self.flagged, &block.flags);
            bar.inc(block.flags.len() as u64);
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn write(
        &mut self,
        label: &Label,
        block: &Block,
        columns: &[Vec<u8>; 3],
    ) -> Result<(), crate::tensors::TensorError> {
        if !label.coding.is_set() {
            // The first axis of the tensor need not be its row.
            let at = block.first * u64::from(label.cols()) * 4;
            return self.writer.write_bytes(0, at, &columns[0]);
        }
        for (column, bytes) in columns.iter().enumerate() {
            self.writer.write(column, block.first, bytes)?;
        }
        self.writer.write(3, block.first, &block.flags)
    }
}

/// The tensor that was coded, in the file that is said to hold it.
fn same<'a>(label: &Label, file: &'a TensorFile) -> Result<Rows<'a>, Failure> {
    let rows = file.rows(&label.tensor).map_err(Failure::setup)?;
    if rows.rows != label.rows() || rows.cols != label.cols() {
        let hint =
            if label.lm_head { "; its rows are products with the node's weights" } else { "" };
        return Err(Failure::Setup(format!(
            "--original: tensor `{}` has {} rows of {}, but {} rows of {} were coded{hint}",
            label.tensor,
            rows.rows,
            rows.cols,
            label.rows(),
            label.cols()
        )));
    }
    Ok(rows)
}

/// The basis that decodes the rows, if they need one.
fn obtain(args: &DecompressArgs, label: &Label) -> Result<Option<Basis>, Failure> {
    if !label.coding.needs_basis() {
        return Ok(None);
    }
    let (wanted, coding) = (BasisId(label.basis), label.coding);
    let (found, whose) = match (&args.basis, &args.addr) {
        (Some(path), _) => (basis::read(path).map_err(Failure::Setup)?, path.display().to_string()),
        (None, Some(addr)) => {
            let reach = Reach::new(addr, &args.security)?;
            (basis::fetch(&reach, PATIENCE)?, format!("the node at {addr}"))
        }
        (None, None) => {
            return Err(Failure::Setup(format!(
                "{coding} rows are decoded with the basis that they were coded with, {wanted}.\n\
                 Fetch it from a node that has it, then pass it:\n  \
                 butterfly basis --addr NODE --out basis.safetensors\n  \
                 butterfly decompress --in {} --out {} --basis basis.safetensors\n\
                 or pass --addr NODE here",
                args.input.display(),
                args.out.display()
            )));
        }
    };
    if found.id() != wanted {
        return Err(Failure::Setup(format!(
            "the rows were coded with basis {wanted}, but {whose} has {}: fetch the other with \
             `butterfly basis --addr NODE --out basis.safetensors` from the node that coded them",
            found.id()
        )));
    }
    if found.width() != label.cols() as usize {
        return Err(Failure::Setup(format!(
            "basis {} is for rows of {}, the file says {}: the file is damaged",
            wanted.short(),
            found.width(),
            label.cols()
        )));
    }
    Ok(Some(found))
}

fn describe(file: &CodedFile, seconds: f64) -> Value {
    let label = &file.label;
    let mut report = json!({
        "operation": "decompress",
        "coding": label.coding.name(),
        "tensor": label.tensor,
        "dtype": label.dtype.name(),
        "rows": label.rows(),
        "cols": label.cols(),
        "tensor_bytes": label.plain_bytes(),
        "coded_bytes": file.coded_bytes(),
        "ratio": label.plain_bytes() as f64 / file.coded_bytes().max(1) as f64,
        "seconds": seconds,
        "rows_per_second": label.rows() as f64 / seconds.max(1e-9),
    });
    if label.coding.is_set() {
        report["k"] = json!(label.k);
    }
    if label.quality != 0.0 {
        report["quality"] = as_written(label.quality);
    }
    if label.coding.needs_basis() {
        report["basis"] = json!(BasisId(label.basis).to_string());
    }
    report
}

fn as_text(report: &Value) -> String {
    let text = |key: &str| report[key].as_str().unwrap_or_default().to_owned();
    let bytes = |key: &str| Bytes(report[key].as_u64().unwrap_or(0)).to_string();
    let float = |key: &str| report[key].as_f64().unwrap_or(0.0);
    let mut rows = vec![["what", "value"].map(str::to_owned)];
    let mut add = |what: &str, value: String| rows.push([what.to_owned(), value]);
    let (tensor, dtype) = (text("tensor"), text("dtype"));
    add("tensor", format!("{tensor}: {} rows of {} {dtype}", report["rows"], report["cols"]));
    let mut coding = text("coding");
    for (key, name) in [("k", "k"), ("quality", "quality")] {
        if let Some(value) = report[key].as_f64() {
            coding.push_str(&format!(", {name} {value}"));
        }
    }
    add("coding", coding);
    if report["basis"].is_string() {
        add("basis", text("basis"));
    }
    add("bytes", format!("{} from {}", bytes("tensor_bytes"), bytes("coded_bytes")));
    add("ratio", format!("{:.1}", float("ratio")));
    for (what, value) in fidelity_lines(report) {
        add(what, value);
    }
    for (what, value) in flag_lines(report) {
        add(&what, value);
    }
    add("time", format!("{:.2} s, {:.0} rows/s", float("seconds"), float("rows_per_second")));
    add("written", text("out"));
    table::plain(&rows)
}
