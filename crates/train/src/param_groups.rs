//! Which parameters share a learning rate and a weight decay (deim-facts section 2, "Parameter-group
//! semantics").
//!
//! The official patterns are look-arounds over a parameter's full name; a spec writes each as a list
//! of patterns that must be found and a list of which none may be. Three official quirks change
//! numbers, so they are kept:
//!
//! - `^(?=.*backbone)(?!.*norm|bn).*$` forbids `norm` anywhere but `bn` only at the very start, where
//!   no name has it. It becomes `none = ["norm", "^bn"]`, and HGNetv2's `...bn.weight` stays in the
//!   backbone's group with its weight decay (DEIM-N, L and X, the D-FINE baselines).
//! - `^(?=.*backbone)(?=.*norm|bn).*$` wants `norm` anywhere or `bn` at the very start. It becomes
//!   `all = ["backbone", "norm|^bn"]`, and HGNetv2 has no such name: the second group of N is empty.
//! - DEIM-S, M and the RT-DETRv2 recipes give all norms the base rate, those of the backbone too.

use deim_spec::config;
use regex::Regex;

/// The learning rate and weight decay of one parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    pub learning_rate: f64,
    pub weight_decay: f64,
}

/// The groups of a configuration.
#[derive(Clone, Debug)]
pub struct ParamGroups {
    groups: Vec<Group>,
    /// Of parameters that no group takes.
    rest: Rates,
}

#[derive(Clone, Debug)]
struct Group {
    all: Vec<Regex>,
    none: Vec<Regex>,
    rates: Rates,
}

impl ParamGroups {
    pub fn new(config: &config::Optimizer) -> Result<Self, regex::Error> {
        let rest = Rates { learning_rate: config.lr, weight_decay: config.weight_decay };
        let compile = |patterns: &[String]| {
            patterns.iter().map(|pattern| Regex::new(pattern)).collect::<Result<Vec<_>, _>>()
        };
        let group = |group: &config::ParamGroup| {
            Ok(Group {
                all: compile(&group.all)?,
                none: compile(&group.none)?,
                rates: Rates {
                    learning_rate: group.lr.unwrap_or(rest.learning_rate),
                    weight_decay: group.weight_decay.unwrap_or(rest.weight_decay),
                },
            })
        };
        let groups = config.groups.iter().map(group).collect::<Result<Vec<_>, regex::Error>>()?;
        Ok(Self { groups, rest })
    }

    /// The number of the first group that takes a parameter; what no group takes is the group after
    /// the last, as officially.
    pub fn index(&self, name: &str) -> usize {
        let takes = |group: &Group| {
            group.all.iter().all(|pattern| pattern.is_match(name))
                && !group.none.iter().any(|pattern| pattern.is_match(name))
        };
        self.groups.iter().position(takes).unwrap_or(self.groups.len())
    }

    pub fn rates(&self, name: &str) -> Rates {
        self.groups.get(self.index(name)).map_or(self.rest, |group| group.rates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(
        all: &[&str],
        none: &[&str],
        lr: Option<f64>,
        weight_decay: Option<f64>,
    ) -> config::ParamGroup {
        let texts = |patterns: &[&str]| patterns.iter().map(ToString::to_string).collect();
        config::ParamGroup { all: texts(all), none: texts(none), lr, weight_decay }
    }

    /// The groups of DEIM-D-FINE-N.
    fn groups() -> ParamGroups {
        let config = config::Optimizer {
            lr: 8e-4,
            weight_decay: 1e-4,
            groups: vec![
                group(&["backbone"], &["norm", "^bn"], Some(4e-4), None),
                group(&["backbone", "norm|^bn"], &[], Some(4e-4), Some(0.0)),
                group(&["encoder|decoder", "norm|bn|bias"], &[], None, Some(0.0)),
            ],
            ..config::Optimizer::default()
        };
        ParamGroups::new(&config).unwrap()
    }

    #[test]
    fn backbone_batch_norms_of_hgnetv2_decay_as_officially() {
        let groups = groups();
        let rates = groups.rates("backbone.stem.stem1.bn.weight");
        assert_eq!(rates, Rates { learning_rate: 4e-4, weight_decay: 1e-4 });
        assert_eq!(groups.index("backbone.stem.stem1.bn.weight"), 0);
        assert_eq!(groups.index("encoder.input_proj.0.norm.weight"), 2);
        assert_eq!(groups.rates("decoder.enc_output.proj.bias").weight_decay, 0.0);
        assert_eq!(groups.index("decoder.enc_output.proj.weight"), 3);
    }

    #[test]
    fn presnets_norms_leave_the_backbones_group() {
        assert_eq!(groups().index("backbone.conv1.conv1_1.norm.weight"), 1);
        assert_eq!(groups().index("backbone.conv1.conv1_1.conv.weight"), 0);
    }
}
