//! Whatever is in a file or a flag, loading answers with an experiment or a message.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Folder, experiment};
use deim_spec::{Options, cell_id};
use proptest::prelude::*;

/// Keys that exist, keys that nearly do, and keys that do not.
fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "epochs",
        "loss.gamma",
        "loss.class",
        "loss",
        "augment.mosaic",
        "model.decoder.heads",
        "model.backbone.blocks",
        "optimizer.groups",
        "schedule.augment_start",
        "schedule.flat_epoch",
        "schedule.no_aug_epochs",
        "data.input_size",
        "title",
        "question",
        "extends",
        "paper",
        "axis",
        "seeds",
        "seeds.count",
        "scales",
        "scales.mini",
        "scales.mini.axis",
        "loss.gama",
        "\"\"",
        "\"a.b\"",
        "ünter",
    ])
    .prop_map(String::from)
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "0",
        "1",
        "-1",
        "4",
        "0.5",
        "-0.0",
        "nan",
        "inf",
        "1e300",
        "4294967295",
        "9223372036854775807",
        "99999999999999999999",
        "true",
        "\"mal\"",
        "\"\"",
        "\"ü\"",
        "1979-05-27",
        "\"loss.gamma\"",
        "\"a.toml\"",
        "\"r.toml\"",
        "[]",
        "{}",
        "'''\nlong\n'''",
    ])
    .prop_map(String::from);
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec(("[a-z]{1,6}", inner.clone()), 0..3).prop_map(|items| {
                let items = items.into_iter().map(|(key, value)| format!("{key} = {value}"));
                format!("{{ {} }}", items.collect::<Vec<_>>().join(", "))
            }),
            (key(), prop::collection::vec(inner.clone(), 0..3)).prop_map(|(key, values)| {
                let key = key.replace('"', "");
                format!("[{{ key = \"{key}\", values = [{}] }}]", values.join(", "))
            }),
            (key(), inner).prop_map(|(key, value)| {
                let key = key.replace('"', "");
                format!("[{{ name = \"n\", case = [{{ label = \"l\", set = {{ \"{key}\" = {value} }} }}] }}]")
            }),
        ]
    })
}

fn answered(body: &str, set: Vec<String>) {
    let folder = Folder::new(&[("a.toml", body), ("r.toml", "epochs = 20\n")]);
    match folder.load("a", &Options { set, ..Options::default() }) {
        Ok(experiment) => assert!(!experiment.rows.is_empty() && !experiment.seeds.is_empty()),
        Err(error) => {
            assert!(error.count() > 0);
            assert!(error.render(true).len() >= error.to_string().len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn plausible_files_never_panic(lines in prop::collection::vec((key(), value()), 0..6)) {
        let lines: String = lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        answered(&experiment(&lines), vec![]);
        answered(&lines, vec![]);
    }

    #[test]
    fn arbitrary_text_never_panics(text in "[a-zü=\\[\\]{}.\"#\n\r\t 0-9-]{0,60}") {
        answered(&text, vec![]);
    }

    #[test]
    fn flags_never_panic(key in key(), value in value(), text in "\\PC{0,20}") {
        let sound = experiment("");
        answered(&sound, vec![format!("{key}={value}")]);
        answered(&sound, vec![text]);
    }

    #[test]
    fn the_order_of_keys_does_not_change_the_cell(
        values in prop::collection::vec(1u32..1000, 4),
        order in Just(vec![0usize, 1, 2, 3]).prop_shuffle(),
        parts in prop::collection::vec(any::<bool>(), 4),
    ) {
        let keys = ["loss.gamma", "loss.alpha", "matcher.bbox", "denoising.queries"];
        let whole = |index: usize| keys[index] == "denoising.queries";
        let line = |index: usize, as_float: bool| match as_float && !whole(index) {
            true => format!("{} = {}.0\n", keys[index], values[index]),
            false => format!("{} = {}\n", keys[index], values[index]),
        };
        let id = |body: String, part: String| {
            let folder = Folder::new(&[
                ("a.toml", &experiment(&format!("extends = [\"p.toml\"]\n{body}"))),
                ("p.toml", &part),
            ]);
            let loaded = folder.load("a", &Options::default()).expect("sound");
            cell_id(&loaded.rows[0].config, 0, "m", 1, "cpu")
        };
        let plain = id((0..4).map(|index| line(index, false)).collect(), String::new());
        let here = order.iter().filter(|index| !parts[**index]).map(|index| line(*index, true));
        let there = order.iter().filter(|index| parts[**index]).map(|index| line(*index, true));
        prop_assert_eq!(plain, id(here.collect(), there.collect()));
    }
}
