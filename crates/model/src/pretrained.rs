//! Weights of a file into a detector, and a full account of what fitted.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::TensorData;
use deim_spec::Config;
use deim_weights::{Entries, FileError, Layout, Part, Tensor, WeightFile};

use crate::official;
use crate::weights;

/// Which weights of a file go into a detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The average where there is one, else the model.
    Best,
    /// This part and no other.
    Part(Part),
    /// Only the backbone, of the average or the model.
    Backbone,
}

/// Why nothing can be loaded.
#[derive(Debug, thiserror::Error)]
pub enum PretrainedError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("`{file}` has no part `{wanted}`, only {found}")]
    NoPart { file: String, wanted: &'static str, found: String },
    #[error(
        "nothing in `{file}` fits: expected names like `{expected}`, found names like `{found}`"
    )]
    NothingFits { file: String, expected: String, found: String },
}

/// A tensor that the model has in another shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    pub name: String,
    pub expected: Vec<usize>,
    pub found: Vec<usize>,
}

/// What came of loading, name by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The part that was read: `ema`, `model`.
    pub part: String,
    pub loaded: Vec<String>,
    /// In the model, not in the file, with their shapes: they stay as they were.
    pub missing: BTreeMap<String, Vec<usize>>,
    /// In the file, not in the model, with their shapes.
    pub unexpected: BTreeMap<String, Vec<usize>>,
    /// In both, in other shapes: they stay as they were.
    pub mismatched: Vec<Mismatch>,
    /// Counters and constants of the file; the model has its own.
    pub computed: usize,
    /// Constants that say another thing than the model: name, expected and found.
    pub contradictions: Vec<(String, String, String)>,
    /// Tensors of more than 32 bits a number, which were rounded.
    pub rounded: usize,
}

impl Report {
    /// Whether the file's weights are those of this model, all of them and no others.
    pub fn fits(&self) -> bool {
        self.missing.is_empty()
            && self.unexpected.is_empty()
            && self.mismatched.is_empty()
            && self.contradictions.is_empty()
    }

    /// Whether everything fits but the heads of another set of classes.
    pub fn fits_but_for_classes(&self) -> bool {
        let other = |name: &&String| !official::is_class_head(name);
        !self.missing.keys().chain(self.unexpected.keys()).any(|name| other(&name))
            && !self.mismatched.iter().any(|mismatch| other(&&mismatch.name))
            && self.contradictions.is_empty()
    }

    /// One line for a run's record: nothing that was left out is silent.
    pub fn line(&self) -> String {
        let heads = self.mismatched.iter().filter(|one| official::is_class_head(&one.name)).count();
        let mut parts = vec![format!("{} tensors loaded from `{}`", self.loaded.len(), self.part)];
        let mut add = |count: usize, what: &str| {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        };
        add(heads, "class heads of another class count skipped");
        add(self.mismatched.len() - heads, "of another shape skipped");
        add(self.missing.len(), "not in the file");
        add(self.unexpected.len(), "not in the model");
        add(self.contradictions.len(), "constants of another model");
        add(self.rounded, "rounded to float32");
        parts.join(", ")
    }
}

/// The detector with the chosen weights of a file, where names and shapes agree.
///
/// What does not agree stays as it was and is in the report: for the heads of another class count that
/// is the purpose, for the rest the caller decides by [`Report::fits_but_for_classes`].
pub fn load_pretrained<M: Module>(
    module: M,
    config: &Config,
    file: &WeightFile,
    choice: Choice,
) -> Result<(M, Report), PretrainedError> {
    let report = compare(&expected(&module), config, file, choice)?;
    let (_, entries) = chosen(file, choice)?;
    if report.loaded.is_empty() {
        let first = |name: Option<&String>| name.cloned().unwrap_or_else(|| "none".to_owned());
        return Err(PretrainedError::NothingFits {
            file: file.path.display().to_string(),
            expected: first(report.missing.keys().next()),
            found: first(entries.keys().next()),
        });
    }
    let mut values = BTreeMap::new();
    for name in &report.loaded {
        let tensor = file.read(&entries[name])?;
        values.insert(name.clone(), TensorData::new(tensor.f32s(), tensor.shape));
    }
    Ok((weights::fill(module, |name, _| values.remove(name)), report))
}

/// What loading would come to, for a model with these names and shapes.
pub fn compare(
    expected: &BTreeMap<String, Vec<usize>>,
    config: &Config,
    file: &WeightFile,
    choice: Choice,
) -> Result<Report, PretrainedError> {
    let (part, entries) = chosen(file, choice)?;
    let backbone = choice == Choice::Backbone || file.layout == Layout::Backbone;
    let wanted = |name: &str| !backbone || name.starts_with("backbone.");
    let constants = official::constants(config);
    let mut report = Report { part: part.name().to_owned(), ..Report::default() };
    for (name, entry) in entries.iter().filter(|(name, _)| wanted(name)) {
        if let Some(shape) = expected.get(name) {
            if *shape == entry.shape {
                report.loaded.push(name.clone());
                report.rounded += usize::from(entry.dtype.size() > 4);
            } else {
                report.mismatched.push(Mismatch {
                    name: name.clone(),
                    expected: shape.clone(),
                    found: entry.shape.clone(),
                });
            }
        } else if official::is_computed(name) {
            report.computed += 1;
            // The official code takes these from the file: another value would change its results.
            let known = constants.get(name).filter(|_| !official::is_of_image_size(name));
            if let Some(known) = known {
                let (ours, theirs) = (known.f64s(), file.read(entry)?.f64s());
                if ours != theirs {
                    report.contradictions.push((name.clone(), listed(&ours), listed(&theirs)));
                }
            }
        } else {
            report.unexpected.insert(name.clone(), entry.shape.clone());
        }
    }
    let missing = expected.iter().filter(|(name, _)| wanted(name) && !entries.contains_key(*name));
    report.missing = missing.map(|(name, shape)| (name.clone(), shape.clone())).collect();
    Ok(report)
}

/// Numbers as text, what repeats once: `3 x 0.3333, 6 x 0.1667`.
fn listed(values: &[f64]) -> String {
    let runs = values.chunk_by(|a, b| a == b).map(|run| match run {
        [one] => format!("{one:.4}"),
        [first, ..] => format!("{} x {first:.4}", run.len()),
        [] => String::new(),
    });
    runs.collect::<Vec<String>>().join(", ")
}

/// The chosen weights of a file as a file of their own holds them: a backbone's without `backbone.`.
pub fn extract(
    file: &WeightFile,
    choice: Choice,
) -> Result<BTreeMap<String, Tensor>, PretrainedError> {
    let (part, entries) = chosen(file, choice)?;
    let mut tensors = file.tensors(entries)?;
    if choice == Choice::Backbone || file.layout == Layout::Backbone {
        let bare = |(name, tensor): (String, Tensor)| {
            name.strip_prefix("backbone.").map(|name| (name.to_owned(), tensor))
        };
        tensors = tensors.into_iter().filter_map(bare).collect();
    }
    if tensors.is_empty() {
        return Err(PretrainedError::NoPart {
            file: file.path.display().to_string(),
            wanted: "backbone",
            found: part.name().to_owned(),
        });
    }
    Ok(tensors)
}

/// The names and shapes of a module's weights.
pub fn expected(module: &impl Module) -> BTreeMap<String, Vec<usize>> {
    weights::read(module).into_iter().map(|(name, data)| (name, data.shape.to_vec())).collect()
}

/// The part of the file that a choice means.
pub fn chosen(file: &WeightFile, choice: Choice) -> Result<(Part, &Entries), PretrainedError> {
    let found = match choice {
        Choice::Best | Choice::Backbone => file.best(),
        Choice::Part(part) => file.parts.get(&part).map(|entries| (part, entries)),
    };
    found.ok_or_else(|| {
        let parts: Vec<&str> = file.parts.keys().map(|part| part.name()).collect();
        PretrainedError::NoPart {
            file: file.path.display().to_string(),
            wanted: match choice {
                Choice::Part(part) => part.name(),
                Choice::Best | Choice::Backbone => "model",
            },
            found: if parts.is_empty() { "none".to_owned() } else { parts.join(", ") },
        }
    })
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use deim_spec::config::Block;

    use super::*;
    use crate::Detector;

    fn config() -> Config {
        let mut config = Config::default();
        let model = &mut config.model;
        model.backbone.block = Block::Basic;
        model.backbone.blocks = [1, 1, 1, 1];
        model.backbone.stem = [4, 4, 8];
        model.backbone.widths = [8, 8, 16, 16];
        model.encoder.hidden = 16;
        model.encoder.heads = 2;
        model.encoder.feedforward = 16;
        model.decoder.hidden = 16;
        model.decoder.heads = 2;
        model.decoder.feedforward = 16;
        model.decoder.layers = 2;
        config
    }

    fn detector(config: &Config, classes: usize, seed: u64) -> Detector {
        Detector::new(config, classes, seed, &Device::flex())
    }

    /// The file of these tensors.
    fn file(tensors: &BTreeMap<String, Tensor>) -> WeightFile {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        deim_weights::write(&path, tensors).unwrap();
        // The open file outlives its name.
        deim_weights::open(&path).unwrap()
    }

    fn saved(config: &Config, classes: usize, seed: u64) -> BTreeMap<String, Tensor> {
        official::state_dict(&detector(config, classes, seed), config)
    }

    #[test]
    fn what_is_saved_comes_back_bit_for_bit() {
        let config = config();
        let tensors = saved(&config, 3, 1);
        let fresh = detector(&config, 3, 2);
        let (loaded, report) =
            load_pretrained(fresh, &config, &file(&tensors), Choice::Best).unwrap();
        assert!(report.fits(), "{report:?}");
        assert_eq!(report.loaded.len() + report.computed, tensors.len());
        assert_eq!(official::state_dict(&loaded, &config), tensors);
    }

    #[test]
    fn heads_of_another_class_count_are_skipped_and_counted() {
        let config = config();
        let fresh = detector(&config, 3, 2);
        let before = official::state_dict(&fresh, &config);
        let tensors = saved(&config, 5, 1);
        let (loaded, report) =
            load_pretrained(fresh, &config, &file(&tensors), Choice::Best).unwrap();
        // Two tensors of the encoder's head, two of each layer's, the table of noised classes.
        assert_eq!(report.mismatched.len(), 2 + 2 * 2 + 1, "{report:?}");
        assert!(!report.fits() && report.fits_but_for_classes());
        assert!(report.line().contains("7 class heads of another class count skipped"));
        let after = official::state_dict(&loaded, &config);
        let head = "decoder.enc_score_head.weight";
        assert_eq!(after[head], before[head]);
        let other = "decoder.enc_bbox_head.layers.0.weight";
        assert!(after[other] == tensors[other] && after[other] != before[other]);
    }

    #[test]
    fn a_backbone_file_reaches_the_backbone_alone() {
        let config = config();
        let whole = file(&saved(&config, 3, 1));
        let backbone = extract(&whole, Choice::Backbone).unwrap();
        assert!(
            backbone
                .keys()
                .all(|name| name.starts_with("conv1.") || name.starts_with("res_layers."))
        );
        let backbone = file(&backbone);
        assert_eq!(backbone.layout, Layout::Backbone);
        let fresh = detector(&config, 3, 2);
        let before = official::state_dict(&fresh, &config);
        let (loaded, report) = load_pretrained(fresh, &config, &backbone, Choice::Best).unwrap();
        assert!(report.fits(), "{report:?}");
        let after = official::state_dict(&loaded, &config);
        let stem = "backbone.conv1.conv1_1.conv.weight";
        assert_ne!(after[stem], before[stem]);
        for name in before.keys().filter(|name| !name.starts_with("backbone.")) {
            assert_eq!(after[name], before[name], "{name}");
        }
        // The same from the whole file.
        let (again, _) =
            load_pretrained(detector(&config, 3, 2), &config, &whole, Choice::Backbone).unwrap();
        assert_eq!(official::state_dict(&again, &config), after);
    }

    #[test]
    fn a_file_of_another_model_with_the_same_shapes_is_told() {
        let ours = config();
        let mut theirs = config();
        theirs.model.decoder.points = vec![3, 6, 3];
        let (_, report) = load_pretrained(
            detector(&ours, 3, 2),
            &ours,
            &file(&saved(&theirs, 3, 1)),
            Choice::Best,
        )
        .unwrap();
        let name = "decoder.decoder.layers.0.cross_attn.num_points_scale".to_owned();
        let [ours, theirs] =
            ["12 x 0.2500", "3 x 0.3333, 6 x 0.1667, 3 x 0.3333"].map(str::to_owned);
        assert_eq!(report.contradictions.len(), 2, "{report:?}");
        assert_eq!(report.contradictions[0], (name, ours, theirs));
        assert!(!report.fits_but_for_classes());
    }

    #[test]
    fn what_is_missing_left_over_or_not_there_at_all_is_named() {
        let config = config();
        let mut tensors = saved(&config, 3, 1);
        let moved = tensors.remove("encoder.input_proj.0.conv.weight").unwrap();
        tensors.insert("encoder.other.weight".into(), moved);
        let (_, report) =
            load_pretrained(detector(&config, 3, 2), &config, &file(&tensors), Choice::Best)
                .unwrap();
        assert!(report.missing.keys().eq(["encoder.input_proj.0.conv.weight"]));
        assert!(report.unexpected.keys().eq(["encoder.other.weight"]));
        let strange = BTreeMap::from([("a.b".to_owned(), Tensor::from_f32s(&[1], &[0.0]))]);
        let told = |choice| {
            load_pretrained(detector(&config, 3, 2), &config, &file(&strange), choice)
                .err()
                .unwrap()
                .to_string()
        };
        assert!(told(Choice::Best).contains("found names like `a.b`"), "{}", told(Choice::Best));
        assert!(told(Choice::Part(Part::Ema)).contains("no part `ema`, only model"));
    }
}
