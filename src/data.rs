//! `deim data`: what a data set consists of, and what is wrong with it.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use deim_data::check::{AREAS, Report, Stats, Summary, check, map_in_order};
use deim_data::decode;
use deim_data::readers::{self, Findings, Format, Index, Level, Options, Reading};
use deim_report::{BarPanel, BarRow, bars, terminal_width, write_figure};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::output::{DONE, FAILED, Outcome};
use crate::progress::count;

/// Look at a data set: COCO, Objects365, CrowdHuman, Pascal VOC or YOLO.
#[derive(clap::Args)]
#[command(after_help = "Example: deim data check ../data/coco")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Check(CheckArgs),
    Stats(StatsArgs),
}

/// Find everything that is wrong with a data set, decoding every image.
///
/// Prints one table: errors would spoil a run, so that training refuses the data; warnings change
/// what is trained on; notes are worth knowing. Exits with 1 on errors.
#[derive(clap::Args)]
struct CheckArgs {
    #[command(flatten)]
    place: Place,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Count boxes, areas and classes, as training sees them.
///
/// Also prints the manifest hash that identifies the annotations, and the names and lengths of the
/// image files.
#[derive(clap::Args)]
struct StatsArgs {
    #[command(flatten)]
    place: Place,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// Draw the counts into this file.
    #[arg(long, value_name = "FIG.svg|FIG.png")]
    out: Option<PathBuf>,
    /// Hash the contents of the image files for the manifest, not only their lengths.
    #[arg(long)]
    deep: bool,
}

#[derive(clap::Args)]
struct Place {
    /// The folder of the data set.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// coco, objects365, crowdhuman, voc or yolo, in place of what the files look like.
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// The folder of the images.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// One split's annotations: a .json, .odgt or .yaml file, or a folder of .xml or .txt files.
    #[arg(long, value_name = "PATH")]
    annotations: Option<PathBuf>,
}

pub fn run(args: Args) -> Outcome {
    match args.command {
        Command::Check(args) => run_check(&args),
        Command::Stats(args) => run_stats(&args),
    }
}

fn read(place: &Place) -> anyhow::Result<Reading> {
    let Place { folder, format, images, annotations } = place;
    let options =
        Options { format: *format, images: images.clone(), annotations: annotations.clone() };
    Ok(readers::read(folder, &options)?)
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// A bar on a terminal, nothing elsewhere.
fn progress(what: &'static str, images: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:30.cyan/dim} {msg} {human_pos}/{human_len}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(images as u64).with_style(style).with_message(what)
}

fn images(reading: &Reading) -> usize {
    reading.splits.iter().map(|split| split.images.len()).sum()
}

fn run_check(args: &CheckArgs) -> Outcome {
    let reading = read(&args.place)?;
    let bar = progress("images decoded", images(&reading));
    let report = check(&reading.splits, threads(), &|done| bar.set_position(done));
    bar.finish_and_clear();
    let mut out = std::io::stdout().lock();
    if args.json {
        let document = check_document(&args.place.folder, &reading, &report);
        writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?;
    } else {
        write!(out, "{}", check_text(&args.place.folder, &reading, &report))?;
    }
    Ok(ExitCode::from(if report.passed() { DONE } else { FAILED }))
}

/// What was read and from where, a line a split.
fn head(folder: &Path, reading: &Reading) -> String {
    let mut text = format!("{} data set in {}", reading.format, folder.display());
    if !reading.also.is_empty() {
        let names: Vec<&str> = reading.also.iter().map(|format| format.name()).collect();
        text.push_str(&format!("; it also looks like {}, which --format reads", names.join(", ")));
    }
    text.push('\n');
    let shown = |path: &Path| {
        let inside = path.strip_prefix(folder).unwrap_or(path);
        if inside.as_os_str().is_empty() { ".".to_owned() } else { inside.display().to_string() }
    };
    for split in &reading.splits {
        text.push_str(&format!(
            "{}: {} of {} in {}; {}, images in {}\n",
            split.split,
            count(split.objects(), "object"),
            count(split.categories.len(), "class"),
            count(split.images.len(), "image"),
            shown(&split.annotations),
            shown(&split.images_dir),
        ));
    }
    text
}

fn check_text(folder: &Path, reading: &Reading, report: &Report) -> String {
    let mut text = head(folder, reading);
    if report.kinds.is_empty() {
        text.push_str("nothing odd was found\n");
        return text;
    }
    let mut table = table(terminal_width());
    let mut header: Vec<Cell> = vec!["level".into(), "what".into()];
    header.extend(reading.splits.iter().map(|split| right(&split.split)));
    header.push("for example".into());
    table.set_header(header);
    for kind in &report.kinds {
        let found = || report.findings.iter().map(|findings| findings.get(*kind));
        let mut row: Vec<Cell> = vec![kind.level().into(), kind.title().into()];
        row.extend(found().map(|found| match found {
            Some(found) => right(&found.count.to_string()),
            None => right("-"),
        }));
        let examples: Vec<&str> = found()
            .flatten()
            .flat_map(|found| found.examples.iter().map(String::as_str))
            .filter(|example| !example.is_empty())
            .take(2)
            .collect();
        row.push(Cell::new(examples.join("; ")));
        table.add_row(row);
    }
    text.push_str(&lines(&table));
    let of = |level| match report.kinds_of(level) {
        0 => format!("no {level}"),
        1 => format!("1 kind of {level}"),
        kinds => format!("{kinds} kinds of {level}"),
    };
    let verdict = if report.passed() { "takes" } else { "refuses" };
    text.push_str(&format!(
        "{} and {}: training {verdict} this data\n",
        of(Level::Error),
        of(Level::Warning),
    ));
    text
}

fn check_document(folder: &Path, reading: &Reading, report: &Report) -> Value {
    let findings = |findings: &Findings| -> Vec<Value> {
        findings
            .iter()
            .map(|(kind, found)| {
                json!({
                    "kind": kind,
                    "level": kind.level(),
                    "what": kind.title(),
                    "count": found.count,
                    "examples": found.examples,
                })
            })
            .collect()
    };
    let splits: Vec<Value> = reading
        .splits
        .iter()
        .zip(&report.findings)
        .map(|(split, found)| {
            json!({
                "split": split.split,
                "annotations": split.annotations.display().to_string(),
                "images_dir": split.images_dir.display().to_string(),
                "images": split.images.len(),
                "objects": split.objects(),
                "categories": split.categories.len(),
                "findings": findings(found),
            })
        })
        .collect();
    json!({
        "folder": folder.display().to_string(),
        "format": reading.format,
        "also": reading.also,
        "passed": report.passed(),
        "splits": splits,
    })
}

fn run_stats(args: &StatsArgs) -> Outcome {
    let reading = read(&args.place)?;
    let bar = progress("images hashed", if args.deep { images(&reading) } else { 0 });
    let stats: Vec<Stats> = reading
        .splits
        .iter()
        .map(|split| Ok(Stats::of(split, manifest(split, args.deep, &bar)?)))
        .collect::<anyhow::Result<_>>()?;
    bar.finish_and_clear();
    let mut out = std::io::stdout().lock();
    if args.json {
        let document = json!({
            "folder": args.place.folder.display().to_string(),
            "format": reading.format,
            "deep": args.deep,
            "splits": stats,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?;
    } else {
        write!(out, "{}{}", head(&args.place.folder, &reading), stats_text(&stats))?;
    }
    if let Some(path) = &args.out {
        write_figure(path, &figure(&args.place.folder, &stats)?)?;
    }
    Ok(ExitCode::from(DONE))
}

fn manifest(split: &Index, deep: bool, bar: &ProgressBar) -> anyhow::Result<String> {
    if !deep {
        return Ok(split.manifest(None));
    }
    let before = bar.position();
    let hashes =
        map_in_order(&split.images, threads(), &|done| bar.set_position(before + done), |image| {
            let Some(path) = &image.path else { return Ok([0; 32]) };
            let bytes = decode::read_bytes(path).with_context(|| path.display().to_string())?;
            Ok(deim_data::content_hash(&bytes))
        });
    let hashes = hashes.into_iter().collect::<anyhow::Result<Vec<[u8; 32]>>>()?;
    Ok(split.manifest(Some(&hashes)))
}

fn stats_text(stats: &[Stats]) -> String {
    let mut numbers = table(terminal_width());
    let mut header = vec![Cell::new("")];
    header.extend(stats.iter().map(|stats| right(&stats.split)));
    numbers.set_header(header);
    let mut row = |name: &str, value: &dyn Fn(&Stats) -> String| {
        let mut cells = vec![Cell::new(name)];
        cells.extend(stats.iter().map(|stats| right(&value(stats))));
        numbers.add_row(cells);
    };
    row("images", &|s| s.images.to_string());
    row("images without boxes", &|s| s.images_without_boxes.to_string());
    row("image width, min / median / max", &|s| range(&s.image_width));
    row("image height, min / median / max", &|s| range(&s.image_height));
    row("boxes to train on", &|s| s.boxes.to_string());
    row("objects left out", &|s| s.left_out.to_string());
    row("boxes per image, mean", &|s| format!("{:.2}", s.boxes_per_image.mean));
    row("boxes per image, median / 95% / max", &|s| {
        let Summary { median, p95, max, .. } = s.boxes_per_image;
        format!("{median} / {p95} / {max}")
    });
    row("side of a box in pixels, min / median / max", &|s| range(&s.box_side));
    for (at, (name, _)) in AREAS.iter().enumerate() {
        row(&format!("{name} boxes"), &|s| {
            let share = s.areas[at] as f64 / s.boxes.max(1) as f64 * 100.0;
            format!("{} ({share:.1}%)", s.areas[at])
        });
    }
    row("manifest", &|s| s.manifest.chars().take(16).collect());

    let mut classes = table(terminal_width());
    let mut header: Vec<Cell> = vec![right("id"), "class".into()];
    header.extend(stats.iter().map(|stats| right(&format!("{}: boxes (images)", stats.split))));
    classes.set_header(header);
    for (id, name) in class_names(stats) {
        let mut cells = vec![right(&id.to_string()), Cell::new(&name)];
        cells.extend(stats.iter().map(|stats| {
            let class = stats.classes.iter().find(|class| class.id == id && class.name == name);
            right(&class.map_or("-".into(), |class| format!("{} ({})", class.boxes, class.images)))
        }));
        classes.add_row(cells);
    }
    format!("{}{}", lines(&numbers), lines(&classes))
}

/// The classes of all splits together, in ascending order of id.
fn class_names(stats: &[Stats]) -> Vec<(i64, String)> {
    let mut names: Vec<(i64, String)> = stats
        .iter()
        .flat_map(|s| s.classes.iter().map(|class| (class.id, class.name.clone())))
        .collect();
    names.sort();
    names.dedup();
    names
}

fn range(summary: &Summary) -> String {
    format!("{:.0} / {:.0} / {:.0}", summary.min, summary.median, summary.max)
}

/// The counts of boxes per image, areas and classes as a drawing.
fn figure(folder: &Path, stats: &[Stats]) -> anyhow::Result<String> {
    /// More classes than this become one row.
    const CLASSES: usize = 40;
    let series: Vec<String> = stats.iter().map(|stats| stats.split.clone()).collect();
    let row = |label: String, value: &dyn Fn(&Stats) -> usize| BarRow {
        label,
        counts: stats.iter().map(value).collect(),
    };
    // 0, 1, 2, 3 to 4, 5 to 8, ... boxes.
    let most = stats.iter().map(|stats| stats.images_by_boxes.len()).max().unwrap_or(0);
    let mut ends = vec![0, 1, 2];
    while ends[ends.len() - 1] + 1 < most {
        ends.push(ends[ends.len() - 1] * 2);
    }
    let mut first = 0;
    let mut per_image = Vec::new();
    for end in ends {
        let label = if first == end { end.to_string() } else { format!("{first} to {end}") };
        let range = first..end + 1;
        per_image.push(row(label, &|s| {
            s.images_by_boxes
                .iter()
                .enumerate()
                .filter(|(n, _)| range.contains(n))
                .map(|(_, c)| c)
                .sum()
        }));
        first = end + 1;
    }
    let areas =
        AREAS.iter().enumerate().map(|(at, (name, _))| row((*name).into(), &|s| s.areas[at]));
    let boxes = |s: &Stats, id: i64| s.classes.iter().filter(|c| c.id == id).map(|c| c.boxes).sum();
    let mut classes: Vec<(usize, BarRow)> = class_names(stats)
        .into_iter()
        .map(|(id, name)| {
            let row = row(name, &|s| boxes(s, id));
            (row.counts.iter().sum(), row)
        })
        .collect();
    classes.sort_by_key(|(total, _)| std::cmp::Reverse(*total));
    let rest = classes.split_off(classes.len().min(CLASSES));
    let mut classes: Vec<BarRow> = classes.into_iter().map(|(_, row)| row).collect();
    if !rest.is_empty() {
        classes.push(BarRow {
            label: match rest.len() {
                1 => "1 more class".into(),
                more => format!("{more} more classes"),
            },
            counts: (0..stats.len())
                .map(|at| rest.iter().map(|(_, row)| row.counts[at]).sum())
                .collect(),
        });
    }
    let panel = |title: &str, rows| BarPanel { title: title.into(), rows };
    let panels = [
        panel("images by number of boxes", per_image),
        panel(
            "boxes by annotated area (COCO: small < 32 x 32, large from 96 x 96 pixels)",
            areas.collect(),
        ),
        panel("boxes by class", classes),
    ];
    let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy();
    let caption = "A bar's length is its share of the split. Boxes are those that training sees.";
    Ok(bars(&format!("What {name} consists of"), caption, &series, &panels)?)
}

fn table(width: Option<u16>) -> Table {
    let mut table = Table::new();
    let rule = LineStyle::none().fill('\u{2500}').junction('\u{2500}');
    table.load_style(TableStyle::new().top_border(rule).header_separator(rule).bottom_border(rule));
    table.force_no_tty();
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table
}

fn right(text: &str) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn lines(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
