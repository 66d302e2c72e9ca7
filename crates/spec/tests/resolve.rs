//! What wins, where it came from, and what stays the same under another spelling.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Folder, experiment};
use deim_spec::{Config, Experiment, Options, Origin, Row, cell_id, show};

fn load(folder: &Folder, options: &Options) -> Experiment {
    folder.load("a", options).unwrap_or_else(|error| panic!("{error}"))
}

fn only_row(files: &[(&str, &str)]) -> Row {
    let folder = Folder::new(files);
    let mut experiment = load(&folder, &Options::default());
    assert_eq!(experiment.rows.len(), 1);
    experiment.rows.remove(0)
}

fn id(row: &Row) -> String {
    cell_id(&row.config, 0, "manifest", 1, "cpu")
}

#[test]
fn nothing_said_is_the_built_in_recipe() {
    let row = only_row(&[("a.toml", &experiment(""))]);
    let mut expected = Config::default();
    expected.schedule.stop_epoch = Some(58);
    expected.schedule.flat_epoch = Some(33);
    assert_eq!(row.config, expected);
    assert!(row.settings.is_empty());
    let derived = ["schedule.flat_epoch", "schedule.stop_epoch"];
    for (key, origin) in &row.provenance {
        let expected =
            if derived.contains(&key.as_str()) { Origin::Derived } else { Origin::Default };
        assert_eq!(*origin, expected, "{key}");
    }
}

/// Each layer sets its own key and all keys of the layers above it.
#[test]
fn layers_win_in_the_documented_order() {
    let part = |keys: &[&str], value: &str| -> String {
        keys.iter().map(|key| format!("matcher.{key} = {value}\n")).collect()
    };
    let keys = ["alpha", "bbox", "class", "gamma", "giou"];
    let body = format!(
        "extends = [\"e.toml\"]\n{}[scales.s]\nextends = [\"s.toml\"]\n{}[[axis]]\nkey = \"matcher.giou\"\nvalues = [0.5]\n",
        part(&keys[2..], "0.3"),
        part(&keys[3..], "0.4"),
    );
    let folder = Folder::new(&[
        ("a.toml", &experiment(&body)),
        ("e.toml", &part(&keys, "0.1")),
        ("s.toml", &part(&keys[1..], "0.2")),
    ]);
    let matcher = load(&folder, &Options::default()).rows[0].config.matcher.clone();
    let values = [matcher.alpha, matcher.bbox, matcher.class, matcher.gamma, matcher.giou];
    assert_eq!(values, [0.1, 0.2, 0.3, 0.4, 0.5]);

    let set = vec!["matcher.gamma=0.6".into(), "matcher.gamma=0.7".into()];
    let row = load(&folder, &Options { set, ..Options::default() }).rows.remove(0);
    assert_eq!(row.config.matcher.gamma, 0.7, "the last flag counts");
    assert_eq!(row.provenance["matcher.gamma"], Origin::Flag("--set matcher.gamma=0.7".into()));
}

#[test]
fn parts_merge_depth_first_and_lists_replace() {
    let row = only_row(&[
        ("a.toml", &experiment("extends = [\"x.toml\", \"y.toml\"]\n[loss]\nalpha = 0.1\n")),
        ("x.toml", "extends = [\"z.toml\"]\nmatcher.class = 3.0\n[loss]\ngamma = 1.1\n"),
        ("y.toml", "extends = [\"z.toml\"]\n[[optimizer.groups]]\nall = [\"bn\"]\n"),
        ("z.toml", "epochs = 30\n[loss]\ngamma = 1.2\nweight_giou = 3.0\nalpha = 0.9\n"),
    ]);
    // y.toml comes after x.toml and brings z.toml again, as the official merge does.
    assert_eq!(row.config.loss.gamma, 1.2);
    assert_eq!(row.config.loss.weight_giou, 3.0);
    assert_eq!(row.config.loss.alpha, 0.1);
    assert_eq!(row.config.matcher.class, 3.0);
    assert_eq!(row.config.epochs, 30);
    assert_eq!(row.config.optimizer.groups.len(), 1);
}

#[test]
fn provenance_names_file_and_line() {
    let folder = Folder::new(&[
        (
            "a.toml",
            &experiment(
                "extends = [\"r.toml\"]\n\n[[axis]]\nkey = \"loss.gamma\"\nvalues = [\n  1.0,\n  2.0,\n]\n",
            ),
        ),
        ("r.toml", "# comment\n[loss]\nalpha = 0.5\n[[optimizer.groups]]\nall = [\"bn\"]\n"),
    ]);
    let rows = load(&folder, &Options::default()).rows;
    let at = |row: &Row, key: &str| match &row.provenance[key] {
        Origin::File { path, line } => (path.rsplit('/').next().expect("a name").to_owned(), *line),
        other => panic!("{key}: {other}"),
    };
    assert_eq!(at(&rows[0], "loss.alpha"), ("r.toml".into(), 3));
    assert_eq!(at(&rows[0], "optimizer.groups"), ("r.toml".into(), 4));
    assert_eq!(at(&rows[0], "loss.gamma"), ("a.toml".into(), 8));
    assert_eq!(at(&rows[1], "loss.gamma"), ("a.toml".into(), 9));
}

#[test]
fn rows_are_the_product_with_the_first_axis_slowest() {
    let body = "[[axis]]\nkey = \"augment.mosaic\"\nvalues = [0, 0.5]\n\
                [[axis]]\nname = \"loss\"\n\
                [[axis.case]]\nlabel = \"VFL\"\nset = { loss.class = \"vfl\", \"loss.gamma\" = 2 }\n\
                [[axis.case]]\nlabel = \"MAL\"\nextends = [\"r.toml\"]\n";
    let folder =
        Folder::new(&[("a.toml", &experiment(body)), ("r.toml", "[loss]\nweight_giou = 4.0\n")]);
    let experiment = load(&folder, &Options::default());
    let titles: Vec<String> = experiment.rows.iter().map(Row::title).collect();
    let expected = [
        "augment.mosaic = 0.0, loss = VFL",
        "augment.mosaic = 0.0, loss = MAL",
        "augment.mosaic = 0.5, loss = VFL",
        "augment.mosaic = 0.5, loss = MAL",
    ];
    assert_eq!(titles, expected);
    assert_eq!(experiment.rows[2].config.loss.gamma, 2.0);
    assert_eq!(experiment.rows[3].config.loss.weight_giou, 4.0);
    assert_eq!(experiment.axes[1].labels, ["VFL", "MAL"]);
}

#[test]
fn scale_defaults_to_mini_and_may_replace_axes_and_seeds() {
    let body = "[scales.paper]\nepochs = 24\nseeds = { count = 1 }\n\
                [[scales.paper.axis]]\nkey = \"loss.gamma\"\nvalues = [1.5]\n\
                [scales.mini]\nepochs = 16\n\
                [[axis]]\nkey = \"loss.gamma\"\nvalues = [1.3, 1.5]\n[seeds]\ncount = 5\n";
    let folder = Folder::new(&[("a.toml", &experiment(body))]);
    let mini = load(&folder, &Options::default());
    assert_eq!((mini.scale.as_str(), mini.rows.len(), mini.seeds.len()), ("mini", 2, 5));
    assert_eq!(mini.scales, ["paper", "mini"]);
    let asked = Options { scale: Some("paper".into()), ..Options::default() };
    let paper = load(&folder, &asked);
    assert_eq!((paper.rows[0].config.epochs, paper.rows.len(), paper.seeds.len()), (24, 1, 1));
    let asked = Options { seeds: Some(3), ..asked };
    assert_eq!(load(&folder, &asked).seeds, [0, 1, 2]);
}

#[test]
fn first_scale_of_the_file_stands_in_for_mini() {
    let folder = Folder::new(&[("a.toml", &experiment("[scales.z]\n[scales.b]\n"))]);
    assert_eq!(load(&folder, &Options::default()).scale, "z");
}

#[test]
fn flags_are_toml_or_else_strings() {
    let folder = Folder::new(&[("a.toml", &experiment(""))]);
    let set =
        ["loss.class=vfl", "model.decoder.points=[2, 2, 2]", "optimizer.lr=1e-3", "epochs=20"];
    let options = Options { set: set.map(String::from).to_vec(), ..Options::default() };
    let config = load(&folder, &options).rows.remove(0).config;
    assert_eq!(config.loss.class, deim_spec::config::ClassLoss::Vfl);
    assert_eq!(config.model.decoder.points, [2, 2, 2]);
    assert_eq!(config.optimizer.lr, 1e-3);
    assert_eq!(config.schedule.stop_epoch, Some(18));
}

#[test]
fn another_spelling_is_the_same_cell() {
    let plain = only_row(&[(
        "a.toml",
        &experiment(
            "epochs = 20\n[loss]\ngamma = 2.0\nalpha = 1.0\n[schedule]\nwarmup_fraction = 0.0\n",
        ),
    )]);
    let moved = only_row(&[
        (
            "a.toml",
            &experiment("# a comment\nloss = { alpha = 1, gamma = 2 }\nextends = [\"r.toml\"]\n"),
        ),
        ("r.toml", "epochs = 20\nschedule.warmup_fraction = -0.0\n"),
    ]);
    assert_eq!(id(&plain), id(&moved));
    let by_hand = only_row(&[(
        "a.toml",
        &experiment(
            "schedule = { stop_epoch = 18, flat_epoch = 13 }\nloss = { alpha = 1, gamma = 2 }\nepochs = 20\n",
        ),
    )]);
    assert_eq!(id(&plain), id(&by_hand), "derived epochs said by hand are the same epochs");
    let other = only_row(&[("a.toml", &experiment("epochs = 20\nloss.gamma = 2.0\n"))]);
    assert_ne!(id(&plain), id(&other));
}

#[test]
fn shown_configuration_is_a_part_that_resolves_to_itself() {
    let body = "epochs = 20\n[loss]\nmal_alpha = 0.5\n[schedule]\nstop_epoch = 17\n";
    let row = only_row(&[("a.toml", &experiment(body))]);
    let shown = show::annotated(&row);
    let again =
        only_row(&[("a.toml", &experiment("extends = [\"p.toml\"]\n")), ("p.toml", &shown)]);
    assert_eq!(row.config, again.config);
    let lines: Vec<&str> = shown.lines().filter(|line| line.contains(" = ")).collect();
    let in_groups = |line: &&&str| line.starts_with("all") || line.starts_with("none");
    let unexplained: Vec<&&str> =
        lines.iter().filter(|line| !line.contains("  # ") && !in_groups(line)).collect();
    // Those of the two default parameter groups; their list as a whole has the comment.
    assert_eq!(unexplained, [&"lr = 0.00002", &"weight_decay = 0.0"]);
}

#[test]
fn published_rows_are_found_by_their_settings() {
    let published = "title = \"T\"\nsource = \"S\"\n\
        [[row]]\nabout = { epochs = 12 }\nsettings = { \"loss.gamma\" = 2 }\nap = 50.0\n\
        [[row]]\nabout = { epochs = 24 }\nsettings = { \"loss.gamma\" = 2 }\nap = 52.0\nsuspicious = \"copied\"\n";
    let body = "paper = { table = \"paper/t.toml\", where = { epochs = 24 } }\n\
                [[axis]]\nkey = \"loss.gamma\"\nvalues = [1.5, 2.0]\n";
    let folder = Folder::new(&[("a.toml", &experiment(body)), ("paper/t.toml", published)]);
    let experiment = load(&folder, &Options::default());
    let paper = experiment.paper.expect("has a published table");
    assert_eq!(paper.row_for(&experiment.rows[0].settings), None);
    let row = paper.row_for(&experiment.rows[1].settings).expect("gamma 2");
    assert_eq!((row.ap, row.suspicious.of("ap").next()), (Some(52.0), Some("copied")));
}

#[test]
fn a_scale_may_have_other_published_rows() {
    let published = "title = \"T\"\nsource = \"S\"\n\
        [[row]]\nabout = { base = \"a\" }\nsettings = { \"loss.gamma\" = 2 }\nap = 50.0\n\
        [[row]]\nabout = { base = \"b\" }\nsettings = { \"loss.gamma\" = 2 }\nap = 52.0\n";
    let body = "paper = { table = \"paper/t.toml\", where = { base = \"a\" } }\n\
                [[axis]]\nkey = \"loss.gamma\"\nvalues = [2.0]\n[scales.mini]\n\
                [scales.other]\npaper = { table = \"paper/t.toml\", where = { base = \"b\" } }\n";
    let folder = Folder::new(&[("a.toml", &experiment(body)), ("paper/t.toml", published)]);
    for (scale, ap) in [("mini", 50.0), ("other", 52.0)] {
        let asked = Options { scale: Some(scale.into()), ..Options::default() };
        let paper = load(&folder, &asked).paper.expect("has a published table");
        assert_eq!(paper.rows.iter().map(|row| row.ap).collect::<Vec<_>>(), [Some(ap)]);
    }
}

#[test]
fn rows_are_compared_with_what_the_experiment_is_without_its_axes() {
    let body = |own: &str| {
        experiment(&format!("{own}\n[[axis]]\nkey = \"loss.gamma\"\nvalues = [1.3, 1.5, 1.8]\n"))
    };
    let reference = |own: &str| {
        let folder = Folder::new(&[("a.toml", &body(own))]);
        load(&folder, &Options::default()).reference
    };
    assert_eq!(reference(""), 1, "the built-in recipe has 1.5");
    assert_eq!(reference("loss = { gamma = 1.8 }"), 2);
    assert_eq!(reference("loss = { gamma = 4.0 }"), 0, "no row is that: the first");

    // `--set` moves every row and the reference with them.
    let folder = Folder::new(&[("a.toml", &body(""))]);
    let set = vec!["epochs=30".to_owned()];
    assert_eq!(load(&folder, &Options { set, ..Options::default() }).reference, 1);
}
