//! One file with everything a run needs to go on: written whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use deim_data::Seen;
use deim_eval::Metrics;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::records::EpochSums;
use crate::stages::Stages;

/// Why a checkpoint cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("cannot {action} `{}`: {source}", path.display())]
    File { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("`{}` is not a whole checkpoint: {problem}", path.display())]
    Broken { path: PathBuf, problem: String },
    #[error(
        "`{}` belongs to another cell: expected cell `{expected}`, found `{found}`; move it away to \
         train this cell from the start",
        path.display()
    )]
    OtherCell { path: PathBuf, expected: String, found: String },
}

/// Everything in a checkpoint but the tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The only cell that may use this checkpoint.
    pub cell: String,
    /// The step to make next.
    pub epoch: u32,
    pub step: u64,
    pub optimizer_steps: u64,
    pub ema_updates: u64,
    pub stages: Stages,
    pub sums: EpochSums,
    /// The last evaluation, and the best with its epoch.
    pub last: Option<Metrics>,
    pub best: Option<(u32, Metrics)>,
    /// What decoding found so far in the splits to train and to measure on.
    #[serde(default)]
    pub seen: [Seen; 2],
}

/// Tensors by their place: `model.`, `ema.`, `optimizer.` and the official name.
pub type Tensors = BTreeMap<String, TensorData>;

/// The metadata entry that holds the [`State`].
const STATE: &str = "state";

/// Writes a checkpoint, replacing the one before in one move.
pub fn save(path: &Path, state: &State, tensors: &Tensors) -> Result<(), CheckpointError> {
    let state = serde_json::to_string(state).expect("a state has string keys");
    write(path, &encode(tensors, HashMap::from([(STATE.to_owned(), state)])))
}

/// Reads the checkpoint of a cell; none if there is no file.
pub fn load(path: &Path, cell: &str) -> Result<Option<(State, Tensors)>, CheckpointError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(CheckpointError::File { action: "read", path: path.to_owned(), source });
        }
    };
    let broken = |problem: String| CheckpointError::Broken { path: path.to_owned(), problem };
    let (_, header) =
        SafeTensors::read_metadata(&bytes).map_err(|error| broken(error.to_string()))?;
    let state = header.metadata().as_ref().and_then(|entries| entries.get(STATE));
    let state = state.ok_or_else(|| broken("it holds no training state".to_owned()))?;
    let state: State = serde_json::from_str(state).map_err(|error| broken(error.to_string()))?;
    if state.cell != cell {
        return Err(CheckpointError::OtherCell {
            path: path.to_owned(),
            expected: cell.to_owned(),
            found: state.cell,
        });
    }
    Ok(Some((state, decode(&bytes).map_err(broken)?)))
}

/// Writes a state dict as PyTorch's own safetensors files are, and returns the file's hash.
pub fn save_weights(
    path: &Path,
    tensors: &BTreeMap<String, deim_weights::Tensor>,
) -> Result<String, CheckpointError> {
    let bytes = deim_weights::encode(tensors).map_err(|problem| CheckpointError::Broken {
        path: path.to_owned(),
        problem: problem.to_string(),
    })?;
    write(path, &bytes)?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

fn encode(tensors: &Tensors, metadata: HashMap<String, String>) -> Vec<u8> {
    let views = tensors.iter().map(|(name, data)| {
        let view = TensorView::new(Dtype::F32, data.shape.to_vec(), data.as_bytes());
        (name, view.expect("float32 tensors of their own shape"))
    });
    safetensors::serialize(views, Some(metadata)).expect("valid tensor views")
}

fn decode(bytes: &[u8]) -> Result<Tensors, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    file.iter()
        .map(|(name, view)| {
            if view.dtype() != Dtype::F32 {
                return Err(format!("tensor `{name}` is {:?}, expected F32", view.dtype()));
            }
            let values: Vec<f32> = view
                .data()
                .chunks_exact(4)
                .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
                .collect();
            Ok((name.to_owned(), TensorData::new(values, view.shape().to_vec())))
        })
        .collect()
}

/// Writes under a temporary name, syncs and renames: a reader sees the old file or the new one.
fn write(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let failed = |action: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| CheckpointError::File { action, path, source }
    };
    let temporary = path.with_extension("part");
    let mut file = File::create(&temporary).map_err(failed("create", &temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write", &temporary))?;
    std::fs::rename(&temporary, path).map_err(failed("rename to", path))?;
    if let Some(directory) = path.parent() {
        // The new name itself must survive a power cut.
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(failed("sync", directory))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use deim_data::readers::Kind;

    use super::*;
    use crate::stages::StageRules;

    fn example() -> (State, Tensors) {
        let rules = StageRules {
            stop_epoch: 3,
            checkpoint_every: 0,
            reload_best: true,
            ema_decay: 0.9,
            ema_restart_decay: 0.9,
        };
        let state = State {
            cell: "abc".into(),
            epoch: 1,
            step: 2,
            optimizer_steps: 3,
            ema_updates: 3,
            stages: Stages::new(rules),
            sums: EpochSums { loss: 0.1 + 0.2, ..EpochSums::default() },
            last: None,
            best: Some((0, Metrics { ap: Some(1.0 / 3.0), ..Metrics::default() })),
            seen: [Seen::from([(Kind::Rotated, BTreeSet::from([3]))]), Seen::new()],
        };
        let tensor = TensorData::new(vec![1.5_f32, f32::MIN_POSITIVE, -0.0], [3]);
        (state, Tensors::from([("model.a".to_owned(), tensor)]))
    }

    #[test]
    fn a_checkpoint_comes_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let (state, tensors) = example();
        save(&path, &state, &tensors).unwrap();
        let first = std::fs::read(&path).unwrap();
        let (state, tensors) = load(&path, "abc").unwrap().unwrap();
        save(&path, &state, &tensors).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first);
        assert_eq!((state, tensors), example());
    }

    #[test]
    fn another_cells_checkpoint_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let (state, tensors) = example();
        save(&path, &state, &tensors).unwrap();
        let error = load(&path, "xyz").unwrap_err().to_string();
        assert!(error.contains("expected cell `xyz`, found `abc`"), "{error}");
    }

    #[test]
    fn a_checkpoint_cut_anywhere_is_an_error_and_stays_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let (state, tensors) = example();
        save(&path, &state, &tensors).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 4, 9, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(matches!(load(&path, "abc"), Err(CheckpointError::Broken { .. })), "{length}");
            assert!(path.exists());
        }
    }

    #[test]
    fn no_file_is_no_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        assert!(load(&folder.path().join("none"), "abc").unwrap().is_none());
    }
}
