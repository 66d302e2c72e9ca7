//! What a user sees when a spec is wrong.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Folder, experiment};
use deim_spec::Options;
use insta::assert_snapshot;

/// The message about an experiment with this body.
fn message(body: &str) -> String {
    Folder::new(&[("a.toml", &experiment(body))]).error("a", &Options::default())
}

/// The message about a sound experiment with these flags.
fn message_of_flags(set: &[&str]) -> String {
    let body = "[loss]\ngamma = 1.5\n[[axis]]\nkey = \"augment.mosaic\"\nvalues = [0.0, 0.5]\n";
    let options =
        Options { set: set.iter().map(|text| text.to_string()).collect(), ..Options::default() };
    Folder::new(&[("a.toml", &experiment(body))]).error("a", &options)
}

#[test]
fn unknown_key() {
    assert_snapshot!(message("[loss]\ngama = 1.5 # a slip\n"));
}

#[test]
fn unknown_key_far_from_any_other() {
    assert_snapshot!(message("[ema]\nhalf_life = 3\n"));
}

#[test]
fn unknown_key_at_the_top_meant_for_the_head() {
    assert_snapshot!(message("seed = 3\n"));
}

#[test]
fn unknown_key_in_a_part_names_the_part() {
    let folder = Folder::new(&[
        ("a.toml", &experiment("extends = [\"recipes/r.toml\"]\n")),
        ("recipes/r.toml", "# a recipe\n[schedule]\nlr_gama = 0.5\n"),
    ]);
    assert_snapshot!(folder.error("a", &Options::default()));
}

#[test]
fn a_part_is_not_an_experiment() {
    let folder = Folder::new(&[
        ("a.toml", &experiment("extends = [\"b.toml\"]\n")),
        ("b.toml", &experiment("epochs = 12\n")),
    ]);
    assert_snapshot!(folder.error("a", &Options::default()));
}

#[test]
fn wrong_type() {
    assert_snapshot!(message("[loss]\ngamma = \"high\"\n"));
}

#[test]
fn wrong_type_for_a_whole_number() {
    assert_snapshot!(message("[data]\nbatch_size = -8\n"));
}

#[test]
fn wrong_type_for_a_table() {
    assert_snapshot!(message("loss = 1.5\n"));
}

#[test]
fn wrong_length_of_a_list() {
    assert_snapshot!(message("[model.backbone]\nblocks = [1, 1, 1]\n"));
}

#[test]
fn unknown_choice() {
    assert_snapshot!(message("[loss]\nclass = \"vlf\"\n"));
}

#[test]
fn not_toml() {
    assert_snapshot!(message("[loss\ngamma = 1.5\n"));
}

#[test]
fn the_same_key_twice() {
    assert_snapshot!(message("[loss]\ngamma = 1.5\ngamma = 2.0\n"));
}

#[test]
fn missing_title() {
    let folder = Folder::new(&[("a.toml", "question = \"q\"\n")]);
    assert_snapshot!(folder.error("a", &Options::default()));
}

#[test]
fn empty_axis() {
    assert_snapshot!(message("[[axis]]\nkey = \"loss.gamma\"\nvalues = []\n"));
}

#[test]
fn axis_over_an_unknown_key() {
    assert_snapshot!(message("[[axis]]\nkey = \"loss.gama\"\nvalues = [1.0, 2.0]\n"));
}

#[test]
fn axis_over_a_table() {
    assert_snapshot!(message("[[axis]]\nkey = \"loss\"\nvalues = [{ gamma = 1.0 }]\n"));
}

#[test]
fn axis_with_a_value_of_the_wrong_type() {
    assert_snapshot!(message("[[axis]]\nkey = \"loss.gamma\"\nvalues = [1.0, \"two\"]\n"));
}

#[test]
fn axis_of_neither_kind() {
    assert_snapshot!(message("[[axis]]\nkey = \"loss.gamma\"\nname = \"gamma\"\n"));
}

#[test]
fn duplicate_axis() {
    let axis = "[[axis]]\nkey = \"loss.gamma\"\nvalues = [1.0, 2.0]\n";
    assert_snapshot!(message(&format!("{axis}{axis}")));
}

#[test]
fn axis_that_sets_what_a_case_of_another_sets() {
    assert_snapshot!(message(
        "[[axis]]\nkey = \"loss.gamma\"\nvalues = [1.0, 2.0]\n[[axis]]\nname = \"loss\"\n\
         [[axis.case]]\nlabel = \"MAL\"\nset = { \"loss.class\" = \"mal\", \"loss.gamma\" = 1.5 }\n"
    ));
}

#[test]
fn duplicate_value_in_an_axis_even_if_spelled_otherwise() {
    assert_snapshot!(message("[[axis]]\nkey = \"loss.gamma\"\nvalues = [1, 1.5, 1.0]\n"));
}

#[test]
fn cases_that_come_to_the_same() {
    assert_snapshot!(message(
        "[[axis]]\nname = \"loss\"\n[[axis.case]]\nlabel = \"MAL\"\nset = {}\n\
         [[axis.case]]\nlabel = \"MAL again\"\nset = { \"loss.gamma\" = 1.5 }\n"
    ));
}

#[test]
fn unknown_key_in_a_case() {
    assert_snapshot!(message(
        "[[axis]]\nname = \"o2o\"\n[[axis.case]]\nlabel = \"off\"\nset = { \"augment.mosiac\" = 0.0 }\n"
    ));
}

#[test]
fn flat_epoch_after_stop_epoch() {
    assert_snapshot!(message("epochs = 20\n[schedule]\nflat_epoch = 19\nstop_epoch = 18\n"));
}

#[test]
fn stop_epoch_after_the_end() {
    assert_snapshot!(message("epochs = 20\nschedule.stop_epoch = 21\n"));
}

#[test]
fn too_few_epochs_for_the_derived_phases() {
    assert_snapshot!(message("epochs = 8\n"));
}

#[test]
fn zero_epochs() {
    assert_snapshot!(message("epochs = 0\n"));
}

#[test]
fn impossible_together_across_files() {
    let folder = Folder::new(&[
        ("a.toml", &experiment("extends = [\"scales/s.toml\"]\n\n[schedule]\naugment_start = 7\n")),
        ("scales/s.toml", "epochs = 8\n"),
    ]);
    assert_snapshot!(folder.error("a", &Options::default()));
}

#[test]
fn several_things_out_of_range_at_once() {
    assert_snapshot!(message(
        "[augment]\nmosaic = 1.5\nflip = nan\n[data]\ninput_size = 100\n\
         [model.decoder]\nlayers = 1\nheads = 7\n"
    ));
}

#[test]
fn out_of_range_on_an_axis() {
    assert_snapshot!(message("[[axis]]\nkey = \"augment.mixup\"\nvalues = [0.5, 5.0]\n"));
}

#[test]
fn invalid_regular_expression() {
    assert_snapshot!(message(
        "[[optimizer.groups]]\nall = [\"backbone\"]\nlr = 1e-5\n\
         [[optimizer.groups]]\nall = [\"norm\", \"b(n\"]\n"
    ));
}

#[test]
fn circle_of_parts() {
    let folder = Folder::new(&[
        ("a.toml", &experiment("extends = [\"recipes/b.toml\"]\n")),
        ("recipes/b.toml", "extends = [\"recipes/c.toml\"]\n"),
        ("recipes/c.toml", "epochs = 12\nextends = [\"./recipes/../recipes/b.toml\"]\n"),
    ]);
    assert_snapshot!(folder.error("a", &Options::default()));
}

#[test]
fn experiment_that_extends_itself() {
    assert_snapshot!(message("extends = [\"a.toml\"]\n"));
}

#[test]
fn missing_part() {
    let folder = Folder::new(&[
        ("a.toml", &experiment("extends = [\"recipes/diem.toml\"]\n")),
        ("recipes/deim.toml", ""),
    ]);
    assert_snapshot!(folder.error("a", &Options::default()));
}

#[test]
fn missing_experiment() {
    let folder = Folder::new(&[("gamma.toml", ""), ("losses.toml", "")]);
    assert_snapshot!(folder.error("gama", &Options::default()));
    assert_snapshot!(folder.error("something-else", &Options::default()));
}

#[test]
fn zero_seeds() {
    assert_snapshot!(message("[seeds]\ncount = 0\n"));
    let folder = Folder::new(&[("a.toml", &experiment(""))]);
    let options = Options { seeds: Some(0), ..Options::default() };
    assert_snapshot!(folder.error("a", &options));
}

#[test]
fn unknown_scale() {
    let folder = Folder::new(&[("a.toml", &experiment("[scales.mini]\n[scales.paper]\n"))]);
    let options = Options { scale: Some("papr".into()), ..Options::default() };
    assert_snapshot!(folder.error("a", &options));
}

#[test]
fn unknown_key_in_a_scale_that_is_not_the_default() {
    assert_snapshot!(message("[scales.mini]\n[scales.paper]\nepoch = 24\n"));
}

#[test]
fn flag_with_an_unknown_key() {
    assert_snapshot!(message_of_flags(&["loss.gama=1"]));
}

#[test]
fn flag_without_its_table() {
    assert_snapshot!(message_of_flags(&["mixup=0.5"]));
}

#[test]
fn flag_of_the_wrong_type() {
    assert_snapshot!(message_of_flags(&["loss.alpha=0.5", "loss.gamma=high"]));
}

#[test]
fn flag_without_a_value() {
    assert_snapshot!(message_of_flags(&["loss.gamma"]));
}

#[test]
fn flag_out_of_range() {
    assert_snapshot!(message_of_flags(&["epochs=3"]));
}

#[test]
fn flag_for_what_an_axis_sets() {
    assert_snapshot!(message_of_flags(&["augment.mosaic=1.0"]));
}

#[test]
fn flag_for_what_is_not_configuration() {
    assert_snapshot!(message_of_flags(&["seeds=3"]));
}

const PUBLISHED: &str = "title = \"Table\"\nsource = \"paper\"\n[[row]]\nabout = { epochs = 24 }\n\
                         settings = { \"loss.gamma\" = 1.5 }\nap = 52.4\n";

#[test]
fn filter_of_published_rows_that_keeps_none() {
    let body = "paper = { table = \"paper/t.toml\", where = { epochs = 12 } }\n";
    let folder = Folder::new(&[("a.toml", &experiment(body)), ("paper/t.toml", PUBLISHED)]);
    assert_snapshot!(folder.error("a", &Options::default()));
}

#[test]
fn published_table_about_something_else() {
    let body = "paper = \"paper/t.toml\"\n[[axis]]\nkey = \"loss.alpha\"\nvalues = [0.5, 0.75]\n";
    let folder = Folder::new(&[("a.toml", &experiment(body)), ("paper/t.toml", PUBLISHED)]);
    assert_snapshot!(folder.error("a", &Options::default()));
}

#[test]
fn published_share_where_percent_is_meant() {
    let published = PUBLISHED.replace("52.4", "0.524");
    let folder = Folder::new(&[
        ("a.toml", &experiment("paper = \"paper/t.toml\"\n")),
        ("paper/t.toml", &published),
    ]);
    assert_snapshot!(folder.error("a", &Options::default()));
}
