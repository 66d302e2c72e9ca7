//! Safetensors: a header in JSON, then the tensors one after the other.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype as Stored, Metadata, TensorInfo, TensorView};

use crate::error::{FileError, Problem, broken, refused, unsupported};
use crate::file::{Entries, Entry, Place};
use crate::source::{Source, number};
use crate::tensor::{Dtype, Tensor};

/// A header of 5000 tensors has less than one MiB.
const MAX_HEADER: u64 = 16 << 20;

/// Whether a file that starts like this may be one: the length of a header, then JSON.
pub fn starts_like(head: &[u8]) -> bool {
    head.get(8) == Some(&b'{')
}

/// The tensors of a file, and the texts of its header.
pub fn read(source: &Source) -> Result<(Entries, BTreeMap<String, String>), Problem> {
    let length = number(&source.read(0, 8)?, 0, 8)?;
    if length > MAX_HEADER {
        return refused(format!("a header of {length} bytes"));
    }
    let header: Metadata = match serde_json::from_slice(&source.read(8, length)?) {
        Ok(header) => header,
        Err(error) => return broken(format!("the header: {error}")),
    };
    let data = source.length() - 8 - length;
    let mut entries = Entries::new();
    let mut covered = 0;
    for (name, tensor) in in_order(&header) {
        let Some(dtype) = dtype(tensor.dtype) else {
            return unsupported(format!("tensor `{name}` has the type {:?}", tensor.dtype));
        };
        let (start, end) = tensor.data_offsets;
        let (start, end) = (start as u64, end as u64);
        // Every byte belongs to one tensor: nothing is hidden and nothing overlaps.
        if start != covered || start > end || end > data {
            return broken(format!("tensor `{name}` lies at {start} to {end} of {data} bytes"));
        }
        covered = end;
        let entry = Entry {
            dtype,
            shape: tensor.shape.clone(),
            place: Place::Bytes { start: 8 + length + start, length: end - start },
        };
        if entry.count().checked_mul(dtype.size()) != Some(end - start) {
            return broken(format!(
                "tensor `{name}` has {} bytes, not those of its shape",
                end - start
            ));
        }
        entries.insert(name, entry);
    }
    if covered != data {
        return broken(format!("the tensors have {covered} bytes, the file has {data}"));
    }
    let texts = header.metadata().clone().unwrap_or_default();
    Ok((entries, texts.into_iter().collect()))
}

/// Names and descriptions in the order of the bytes.
fn in_order(header: &Metadata) -> Vec<(String, &TensorInfo)> {
    let mut tensors: Vec<(String, &TensorInfo)> = header.tensors().into_iter().collect();
    tensors
        .sort_by(|(a, first), (b, second)| (first.data_offsets, a).cmp(&(second.data_offsets, b)));
    tensors
}

fn dtype(stored: Stored) -> Option<Dtype> {
    Some(match stored {
        Stored::F64 => Dtype::F64,
        Stored::F32 => Dtype::F32,
        Stored::F16 => Dtype::F16,
        Stored::BF16 => Dtype::BF16,
        Stored::I64 => Dtype::I64,
        Stored::I32 => Dtype::I32,
        Stored::I16 => Dtype::I16,
        Stored::I8 => Dtype::I8,
        Stored::U8 => Dtype::U8,
        Stored::BOOL => Dtype::Bool,
        _ => return None,
    })
}

fn stored(dtype: Dtype) -> Stored {
    match dtype {
        Dtype::F64 => Stored::F64,
        Dtype::F32 => Stored::F32,
        Dtype::F16 => Stored::F16,
        Dtype::BF16 => Stored::BF16,
        Dtype::I64 => Stored::I64,
        Dtype::I32 => Stored::I32,
        Dtype::I16 => Stored::I16,
        Dtype::I8 => Stored::I8,
        Dtype::U8 => Stored::U8,
        Dtype::Bool => Stored::BOOL,
    }
}

/// A safetensors file of these tensors, marked as PyTorch's own are; the same bytes every time.
pub fn encode(tensors: &BTreeMap<String, Tensor>) -> Result<Vec<u8>, Problem> {
    let mut views = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        match TensorView::new(stored(tensor.dtype), tensor.shape.clone(), &tensor.bytes) {
            Ok(view) => views.push((name, view)),
            Err(error) => return broken(format!("tensor `{name}`: {error}")),
        }
    }
    let texts = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    match safetensors::serialize(views, Some(texts)) {
        Ok(bytes) => Ok(bytes),
        Err(error) => broken(error.to_string()),
    }
}

/// Writes a safetensors file: whole or not at all.
pub fn write(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), FileError> {
    let failed = |problem| FileError { path: path.to_owned(), problem };
    let bytes = encode(tensors).map_err(failed)?;
    let temporary = path.with_added_extension("part");
    let written = (|| {
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    })();
    written.map_err(|error| failed(Problem::Unreadable(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::open;

    fn tensors() -> BTreeMap<String, Tensor> {
        BTreeMap::from([
            ("decoder.a".to_owned(), Tensor::from_f32s(&[2, 1], &[1.5, -0.0])),
            ("decoder.b".to_owned(), Tensor::from_i64s(&[], &[7])),
            ("decoder.c".to_owned(), Tensor::from_bools(&[1, 2, 1], &[true, false])),
            ("decoder.d".to_owned(), Tensor::from_f32s(&[0, 3], &[])),
        ])
    }

    #[test]
    fn what_is_written_is_read_again_and_the_bytes_are_always_the_same() {
        let bytes = encode(&tensors()).unwrap();
        assert_eq!(encode(&tensors()).unwrap(), bytes);
        let file = open(bytes).unwrap();
        let (_, entries) = file.best().unwrap();
        assert_eq!(file.tensors(entries).unwrap(), tensors());
    }

    #[test]
    fn a_header_that_contradicts_the_file_is_refused() {
        let with = |header: &str, data: usize| {
            let length = (header.len() as u64).to_le_bytes();
            open([&length[..], header.as_bytes(), &vec![0; data]].concat())
        };
        let tensor = |shape: &str, offsets: &str| {
            format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        assert!(with(&tensor("[2]", "[0,8]"), 8).is_ok());
        for (shape, offsets, data) in [
            ("[2]", "[0,8]", 7),
            ("[2]", "[0,8]", 9),
            ("[3]", "[0,8]", 8),
            ("[2]", "[4,12]", 12),
            ("[2]", "[8,0]", 8),
            ("[4294967296,4294967296,4]", "[0,8]", 8),
            ("[1073741824]", "[0,4294967296]", 8),
        ] {
            assert!(with(&tensor(shape, offsets), data).is_err(), "{shape} {offsets} {data}");
        }
        let twice = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
                        "b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
        assert!(with(twice, 1).is_err());
        assert!(with(r#"{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}"#, 1).is_err());
        let huge = [&u64::MAX.to_le_bytes()[..], b"{"].concat();
        assert!(open(huge).unwrap_err().to_string().starts_with("refused"));
    }
}
