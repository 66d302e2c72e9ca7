//! Round numbers for the axes of figures.

/// The visible range of an axis and where its ticks stand.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    pub low: f64,
    pub high: f64,
    pub ticks: Vec<f64>,
    decimals: usize,
    is_bare: bool,
}

impl Axis {
    /// An axis that shows all values with some air on both sides and about `wanted` ticks.
    pub fn around(values: impl IntoIterator<Item = f64>, wanted: usize) -> Self {
        let (low, high) = values
            .into_iter()
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        if low > high {
            return Self::between(0.0, 1.0, wanted);
        }
        let air = ((high - low) * 0.08).max(0.25);
        Self::between(low - air, high + air, wanted)
    }

    /// An axis with exactly this range; at least two ticks, because one does not make a scale.
    pub fn between(low: f64, high: f64, wanted: usize) -> Self {
        let axis = Self::with_step(low, high, wanted);
        if axis.ticks.len() < 2 { Self::with_step(low, high, 2 * wanted) } else { axis }
    }

    /// The same for numbers that are counted, such as epochs: no tick between two of them.
    pub fn whole(low: u32, high: u32, wanted: usize) -> Self {
        let mut axis = Self::between(f64::from(low), f64::from(high), wanted);
        axis.ticks.retain(|tick| tick.fract() == 0.0);
        axis.decimals = 0;
        axis
    }

    /// The same range and ticks as another axis, without labels: its neighbour has them.
    pub fn bare(low: f64, high: f64, wanted: usize) -> Self {
        Self { is_bare: true, ..Self::between(low, high, wanted) }
    }

    fn with_step(low: f64, high: f64, wanted: usize) -> Self {
        let rough = (high - low) / wanted.max(1) as f64;
        let magnitude = 10f64.powi(rough.log10().floor() as i32);
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|factor| factor * magnitude)
            .into_iter()
            .find(|step| *step >= rough * 0.999)
            .unwrap_or(10.0 * magnitude);
        let first = (low / step - 1e-9).ceil() as i64;
        let last = (high / step + 1e-9).floor() as i64;
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        let ticks = (first..=last).map(|n| n as f64 * step).collect();
        Self { low, high, ticks, decimals, is_bare: false }
    }

    /// A tick's label, with the same number of decimals for all of them.
    pub fn label(&self, tick: f64) -> String {
        if self.is_bare {
            return String::new();
        }
        let label = format!("{tick:.*}", self.decimals);
        if label.trim_start_matches('-').chars().all(|c| c == '0' || c == '.') {
            label.trim_start_matches('-').to_owned()
        } else {
            label.replace('-', "\u{2212}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let axis = Axis::around([29.13, 33.9, 31.0], 6);
        assert_eq!(axis.ticks, [29.0, 30.0, 31.0, 32.0, 33.0, 34.0]);
        assert!(axis.low < 29.13 && axis.high > 33.9);
        assert_eq!(axis.label(29.0), "29");
    }

    #[test]
    fn small_steps_keep_their_decimals() {
        let axis = Axis::between(-0.5, 0.5, 5);
        let labels: Vec<_> = axis.ticks.iter().map(|tick| axis.label(*tick)).collect();
        assert_eq!(labels, ["\u{2212}0.4", "\u{2212}0.2", "0.0", "0.2", "0.4"]);
    }

    #[test]
    fn a_scale_never_has_one_tick_only() {
        let axis = Axis::between(51.25, 52.75, 2);
        assert_eq!(axis.ticks, [51.5, 52.0, 52.5]);
    }

    #[test]
    fn one_value_or_none_still_gives_a_range() {
        assert!(Axis::around([31.0], 4).ticks.len() >= 2);
        assert!(Axis::around([], 4).high > 0.0);
    }
}
