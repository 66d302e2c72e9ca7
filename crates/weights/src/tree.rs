//! State dicts as trees that fit a screen: what repeats is shown once.

use crate::tensor::Dtype;

/// Names may nest as deep as a file likes, a drawing may not: what is deeper is one name.
const DEEPEST: usize = 64;

/// A tensor's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

/// The lines of a tree of tensors. Modules that have the same names inside are one branch, with the
/// range of their sizes; the small tensors of one module share a line.
pub fn tree<'a>(leaves: impl IntoIterator<Item = (&'a str, Leaf)>) -> Vec<String> {
    let mut root = Module::default();
    for (name, leaf) in leaves {
        let mut path: Vec<&str> = name.splitn(DEEPEST, '.').collect();
        let last = path.pop().unwrap_or_default();
        root.at(&path).leaves.push((last.to_owned(), Sizes::of(&leaf)));
    }
    root.merge();
    let mut lines = Vec::new();
    root.draw("", &mut lines);
    lines
}

/// A module: its own tensors, and its modules in the order of the file.
#[derive(Clone, Debug, Default)]
struct Module {
    leaves: Vec<(String, Sizes)>,
    children: Vec<Branch>,
    /// Tensors and numbers of the modules that were merged into this one, together.
    merged: Option<(u64, u64)>,
}

/// Names of merged modules, and one module for all of them.
type Branch = (Vec<String>, Module);

/// The shapes of merged tensors: lowest and highest side of each axis.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sizes {
    dtype: Dtype,
    sides: Vec<(usize, usize)>,
    count: u64,
}

impl Sizes {
    fn of(leaf: &Leaf) -> Self {
        let sides = leaf.shape.iter().map(|&side| (side, side)).collect();
        let count = leaf.shape.iter().fold(1_u64, |count, &side| count.saturating_mul(side as u64));
        Self { dtype: leaf.dtype, sides, count }
    }

    fn widen(&mut self, other: &Self) {
        for (ours, theirs) in self.sides.iter_mut().zip(&other.sides) {
            *ours = (ours.0.min(theirs.0), ours.1.max(theirs.1));
        }
    }

    fn text(&self) -> String {
        let side = |&(low, high): &(usize, usize)| match low == high {
            true => low.to_string(),
            false => format!("{low}..{high}"),
        };
        let sides: Vec<String> = self.sides.iter().map(side).collect();
        format!("[{}]", sides.join(", "))
    }
}

impl Module {
    fn at(&mut self, path: &[&str]) -> &mut Self {
        let Some((first, rest)) = path.split_first() else { return self };
        let known = self.children.iter().position(|(names, _)| names[0] == *first);
        let place = known.unwrap_or_else(|| {
            self.children.push((vec![(*first).to_owned()], Self::default()));
            self.children.len() - 1
        });
        self.children[place].1.at(rest)
    }

    /// Tensors and numbers below.
    fn totals(&self) -> (u64, u64) {
        if let Some(totals) = self.merged {
            return totals;
        }
        let own = (
            self.leaves.len() as u64,
            self.leaves.iter().map(|(_, sizes)| sizes.count).fold(0, u64::saturating_add),
        );
        self.children.iter().fold(own, |sum: (u64, u64), (_, child)| {
            let (tensors, numbers) = child.totals();
            (sum.0 + tensors, sum.1 + numbers)
        })
    }

    /// Merges children that have the same names, types and axes inside.
    fn merge(&mut self) {
        self.children.sort_by(|(a, _), (b, _)| natural(&a[0]).cmp(&natural(&b[0])));
        let mut merged: Vec<Branch> = Vec::new();
        for (names, mut child) in std::mem::take(&mut self.children) {
            child.merge();
            match merged.iter_mut().find(|(_, known)| known.alike(&child)) {
                Some((known_names, known)) => {
                    known_names.extend(names);
                    known.widen(&child);
                }
                None => merged.push((names, child)),
            }
        }
        self.children = merged;
    }

    fn alike(&self, other: &Self) -> bool {
        let leaf = |(ours, theirs): (&(String, Sizes), &(String, Sizes))| {
            ours.0 == theirs.0
                && ours.1.dtype == theirs.1.dtype
                && ours.1.sides.len() == theirs.1.sides.len()
        };
        let child =
            |(ours, theirs): (&Branch, &Branch)| ours.0 == theirs.0 && ours.1.alike(&theirs.1);
        self.leaves.len() == other.leaves.len()
            && self.children.len() == other.children.len()
            && self.leaves.iter().zip(&other.leaves).all(leaf)
            && self.children.iter().zip(&other.children).all(child)
    }

    /// Takes another module of the same names in.
    fn widen(&mut self, other: &Self) {
        let (ours, theirs) = (self.totals(), other.totals());
        self.merged = Some((ours.0 + theirs.0, ours.1.saturating_add(theirs.1)));
        for ((_, ours), (_, theirs)) in self.leaves.iter_mut().zip(&other.leaves) {
            ours.widen(theirs);
        }
        for ((_, ours), (_, theirs)) in self.children.iter_mut().zip(&other.children) {
            ours.widen(theirs);
        }
    }

    fn draw(&self, indent: &str, lines: &mut Vec<String>) {
        if let Some(line) = self.own() {
            lines.push(format!("{indent}{line}"));
        }
        for (names, child) in &self.children {
            // Modules with one module inside stand on one line with it.
            let mut label = set(names);
            let mut shown = child;
            while let ([], [(names, only)]) = (&shown.leaves[..], &shown.children[..]) {
                label = format!("{label}.{}", set(names));
                shown = only;
            }
            let (tensors, numbers) = child.totals();
            match shown.flat() {
                Some(line) if indent.len() + label.len() + line.len() <= WIDTH => {
                    lines.push(format!("{indent}{label}: {line}"));
                }
                _ => {
                    lines.push(format!(
                        "{indent}{label}  ({tensors} tensors, {})",
                        grouped(numbers)
                    ));
                    shown.draw(&format!("{indent}  "), lines);
                }
            }
        }
    }

    /// A module on one line, if it holds no more than simple modules.
    fn flat(&self) -> Option<String> {
        let simple = |(names, child): &Branch| {
            let own = child.own().filter(|_| child.children.is_empty());
            own.map(|own| format!("{} {own}", set(names)))
        };
        let children: Option<Vec<String>> = self.children.iter().map(simple).collect();
        let parts: Vec<String> = self.own().into_iter().chain(children?).collect();
        Some(parts.join(" | "))
    }

    /// The module's own tensors; none without any.
    fn own(&self) -> Option<String> {
        let mut leaves: Vec<(&str, &Sizes)> =
            self.leaves.iter().map(|(name, sizes)| (name.as_str(), sizes)).collect();
        let mut groups: Vec<(String, String)> = Vec::new();
        if let Some(channels) = self.batch_norm() {
            groups.push(("batch norm".to_owned(), channels));
            leaves.retain(|(name, _)| !BATCH_NORM.contains(name));
        }
        leaves.sort_by_key(|&(name, sizes)| (sizes.dtype != Dtype::F32, sizes.dtype, name));
        for (name, sizes) in leaves {
            let kind = if sizes.dtype == Dtype::F32 { "" } else { sizes.dtype.name() };
            let text = format!("{} {kind}", sizes.text()).trim_end().to_owned();
            match groups.last_mut() {
                Some((names, known)) if *known == text => *names = format!("{names}, {name}"),
                _ => groups.push((name.to_owned(), text)),
            }
        }
        let groups: Vec<String> =
            groups.iter().map(|(names, sizes)| format!("{names} {sizes}")).collect();
        (!groups.is_empty()).then(|| groups.join("; "))
    }

    /// The channels of a batch norm, if this is one: four vectors, and maybe a counter.
    fn batch_norm(&self) -> Option<String> {
        let sizes = |wanted: &str| {
            self.leaves.iter().find(|(name, _)| name == wanted).map(|(_, sizes)| sizes)
        };
        let first = sizes(BATCH_NORM[0]).filter(|sizes| sizes.dtype == Dtype::F32)?;
        let vectors = BATCH_NORM[..4].iter().all(|name| sizes(name) == Some(first));
        vectors.then(|| first.text())
    }
}

/// What a batch norm holds.
const BATCH_NORM: [&str; 5] =
    ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"];

/// Columns of a line, not counting what is before the tree.
const WIDTH: usize = 110;

/// Merged names: numbers as ranges, others as a list.
fn set(names: &[String]) -> String {
    if let [name] = names {
        return name.clone();
    }
    let numbers: Option<Vec<u64>> = names.iter().map(|name| name.parse().ok()).collect();
    let Some(numbers) = numbers else {
        return format!("{{{}}}", names.join(", "));
    };
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let range = |&(first, last): &(u64, u64)| match first == last {
        true => first.to_string(),
        false => format!("{first}..{last}"),
    };
    let ranges: Vec<String> = ranges.iter().map(range).collect();
    format!("{{{}}}", ranges.join(", "))
}

/// Numbers in names count as numbers: 2 comes before 10.
fn natural(name: &str) -> (u64, &str) {
    (name.parse().unwrap_or(0), name)
}

/// A count with its thousands apart.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(dtype: Dtype, shape: &[usize]) -> Leaf {
        Leaf { dtype, shape: shape.to_vec() }
    }

    #[test]
    fn what_repeats_is_one_branch_and_nothing_is_lost() {
        let mut leaves = Vec::new();
        let names: Vec<String> = (0..12).map(|index| format!("stages.{index}")).collect();
        let others = ["weight", "bias", "running_mean", "running_var"];
        let mut all = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let channels = 8 << (index / 6);
            all.push((format!("{name}.conv.weight"), leaf(Dtype::F32, &[channels, 3, 3, 3])));
            for other in others {
                all.push((format!("{name}.bn.{other}"), leaf(Dtype::F32, &[channels])));
            }
            all.push((format!("{name}.bn.num_batches_tracked"), leaf(Dtype::I64, &[])));
        }
        // One that is not like the others.
        all.push(("stages.12.conv.weight".into(), leaf(Dtype::F16, &[1, 1, 1, 1])));
        all.push(("scale".into(), leaf(Dtype::F32, &[1])));
        // What is inside of merged modules counts for all of them.
        for index in 0..3 {
            for inner in ["a.x.weight", "a.y.z.weight", "b.w.weight"] {
                all.push((format!("layers.{index}.{inner}"), leaf(Dtype::F32, &[2])));
            }
        }
        leaves.extend(all.iter().map(|(name, leaf)| (name.as_str(), leaf.clone())));
        assert_eq!(
            tree(leaves),
            [
                "scale [1]",
                "layers.{0..2}  (9 tensors, 18)",
                "  a  (6 tensors, 12)",
                "    x: weight [2]",
                "    y.z: weight [2]",
                "  b.w: weight [2]",
                "stages  (73 tensors, 4,477)",
                "  {0..11}: bn batch norm [8..16] | conv weight [8..16, 3, 3, 3]",
                "  12.conv: weight [1, 1, 1, 1] float16",
            ]
        );
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(["0", "999", "1,000", "1,234,567"], [0, 999, 1000, 1_234_567].map(grouped));
        let names = ["0", "1", "3", "4", "5"].map(str::to_owned);
        assert_eq!(set(&names), "{0..1, 3..5}");
    }

    #[test]
    fn a_name_of_a_million_modules_does_not_take_a_million_stack_frames() {
        let deep = format!("a{}", ".a".repeat(1_000_000));
        let lines = tree([(deep.as_str(), leaf(Dtype::F32, &[2]))]);
        assert!(lines.len() <= DEEPEST && lines[lines.len() - 1].ends_with(" [2]"), "{lines:.80?}");
    }
}
