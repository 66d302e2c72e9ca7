//! What a cell will cost, from what finished cells did cost.

use deim_spec::{Config, Recorded};

use crate::record::{Finished, Provenance};

/// Finished cells to learn from.
#[derive(Debug, Default)]
pub struct Costs {
    known: Vec<(Provenance, f64)>,
}

impl Costs {
    pub fn add(&mut self, provenance: &Provenance, finished: &Finished) {
        self.known.push((provenance.clone(), finished.seconds));
    }

    /// Seconds that a cell of this configuration takes: the mean of the cells that differ only in
    /// their seed, else of those with the same model, data and batch, by their seconds an epoch.
    /// None where nothing like it has finished.
    pub fn estimate(&self, config: &Config, device_class: &str) -> Option<f64> {
        let here = || self.known.iter().filter(|(known, _)| known.device_class == device_class);
        let wanted = Recorded::from(config);
        let same = here().filter(|(known, _)| known.config == wanted).map(|(_, seconds)| *seconds);
        mean(same).or_else(|| {
            let alike = here().filter(|(known, _)| alike(&known.config, &wanted));
            mean(alike.filter_map(|(known, seconds)| {
                let epochs = known.config.get("epochs")?.as_f64().filter(|&epochs| epochs > 0.0)?;
                Some(seconds / epochs * f64::from(config.epochs))
            }))
        })
    }
}

/// The same work in an epoch, but for losses and augmentation.
fn alike(a: &Recorded, b: &Recorded) -> bool {
    ["model", "data", "denoising.queries", "eval.every"].iter().all(|key| a.get(key) == b.get(key))
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn the_same_row_counts_first_then_anything_alike_then_nothing() {
        let mut costs = Costs::default();
        let provenance = samples::provenance();
        let config = Config::default();
        assert_eq!(costs.estimate(&config, "cpu"), None);
        costs.add(&provenance, &samples::finished(60.0));

        let mut other = config.clone();
        other.loss.gamma = 9.0;
        assert_eq!(costs.estimate(&other, "cpu"), Some(60.0));
        let provenance = Provenance { config: Recorded::from(&other), ..provenance };
        costs.add(&provenance, &samples::finished(120.0));
        assert_eq!(costs.estimate(&config, "cpu"), Some(60.0));

        let mut half = config.clone();
        half.epochs /= 2;
        assert_eq!(costs.estimate(&half, "cpu"), Some(45.0));
        let mut larger = config.clone();
        larger.model.queries += 1;
        assert_eq!(costs.estimate(&larger, "cpu"), None);
        assert_eq!(costs.estimate(&config, "cuda"), None);
    }
}
