//! State dicts as trees that fit a screen: what repeats is shown once.

use std::collections::BTreeMap;

use crate::tensor::Dtype;

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
        let mut path: Vec<&str> = name.split('.').collect();
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
    /// Names of the merged modules, and one for all of them.
    children: Vec<(Vec<String>, Module)>,
    /// Tensors and numbers of the modules that were merged into this one, together.
    merged: Option<(u64, u64)>,
}

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
        let mut merged: Vec<(Vec<String>, Self)> = Vec::new();
        for (names, mut child) in std::mem::take(&mut self.children) {
            child.merge();
            match merged.iter_mut().find(|(_, known)| known.alike(&child)) {
                Some((known_names, known)) => {
                    known_names.extend(names);
                    let (ours, theirs) = (known.totals(), child.totals());
                    known.widen(&child);
                    known.merged = Some((ours.0 + theirs.0, ours.1 + theirs.1));
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
        let child = |(ours, theirs): (&(Vec<String>, Self), &(Vec<String>, Self))| {
            ours.0 == theirs.0 && ours.1.alike(&theirs.1)
        };
        self.leaves.len() == other.leaves.len()
            && self.children.len() == other.children.len()
            && self.leaves.iter().zip(&other.leaves).all(leaf)
            && self.children.iter().zip(&other.children).all(child)
    }

    fn widen(&mut self, other: &Self) {
        for ((_, ours), (_, theirs)) in self.leaves.iter_mut().zip(&other.leaves) {
            ours.widen(theirs);
        }
        for ((_, ours), (_, theirs)) in self.children.iter_mut().zip(&other.children) {
            ours.widen(theirs);
        }
    }

    fn draw(&self, indent: &str, lines: &mut Vec<String>) {
        for line in self.own() {
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
            let own = shown.own();
            if let ([line], []) = (&own[..], &shown.children[..]) {
                lines.push(format!("{indent}{label}: {line}"));
                continue;
            }
            lines.push(format!("{indent}{label}  ({tensors} tensors, {})", grouped(numbers)));
            shown.draw(&format!("{indent}  "), lines);
        }
    }

    /// The module's own tensors, one line for each kind of number they hold.
    fn own(&self) -> Vec<String> {
        let mut kinds: BTreeMap<Dtype, Vec<(&str, String)>> = BTreeMap::new();
        for (name, sizes) in &self.leaves {
            kinds.entry(sizes.dtype).or_default().push((name, sizes.text()));
        }
        let line = |(dtype, leaves): (&Dtype, &Vec<(&str, String)>)| {
            let mut groups: Vec<(Vec<&str>, &str)> = Vec::new();
            for (name, sizes) in leaves {
                match groups.last_mut() {
                    Some((names, known)) if known == sizes => names.push(name),
                    _ => groups.push((vec![name], sizes)),
                }
            }
            let groups: Vec<String> = groups
                .iter()
                .map(|(names, sizes)| format!("{} {sizes}", names.join(", ")))
                .collect();
            let kind = if *dtype == Dtype::F32 { "" } else { dtype.name() };
            format!("{} {kind}", groups.join("; ")).trim_end().to_owned()
        };
        let lines: Vec<String> = kinds.iter().map(line).collect();
        match lines.is_empty() {
            true => Vec::new(),
            false => vec![lines.join("; ")],
        }
    }
}

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
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
