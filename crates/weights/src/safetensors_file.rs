//! Safetensors: a header in JSON, then the tensors one after the other.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype as Stored, SafeTensors, TensorView};

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
    let head = source.read(0, 8 + length)?;
    let (_, header) = match SafeTensors::read_metadata(&head) {
        Ok(header) => header,
        Err(error) => return broken(error.to_string()),
    };
    let data = source.length() - 8 - length;
    let mut entries = Entries::new();
    for (name, tensor) in header.tensors() {
        let Some(dtype) = dtype(tensor.dtype) else {
            return unsupported(format!("tensor `{name}` has the type {:?}", tensor.dtype));
        };
        let (start, end) = tensor.data_offsets;
        let (start, end) = (start as u64, end as u64);
        if start > end || end > data {
            return broken(format!("tensor `{name}` ends at {end} of {data} bytes"));
        }
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
    let texts = header.metadata().clone().unwrap_or_default();
    Ok((entries, texts.into_iter().collect()))
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
