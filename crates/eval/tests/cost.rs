//! The cost of the ten official detectors, against the official code's own counts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use deim_eval::cost;
use deim_spec::official::models;

/// Parameters and operations that the manifests hold, number by number.
#[test]
fn all_ten_cost_what_the_official_counters_say() {
    for official in models() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/cases");
        let path = path.join(format!("manifests/{}.json", official.name));
        let Ok(text) = std::fs::read_to_string(&path) else {
            return eprintln!("note: there is no {}: nothing is compared", path.display());
        };
        let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
        let found = cost(&official.architecture().unwrap(), 80, 640);
        for (key, value) in [
            ("num_trainable", found.parameters),
            ("calflops_params", found.parameters_deployed),
            ("flops_torch_counter_eval_640", found.flops),
            ("flops_torch_counter_deployed_640", found.flops_deployed),
            ("calflops_flops", found.flops_calflops),
        ] {
            let expected = manifest[key].as_u64().unwrap();
            let off = value as i64 - expected as i64;
            assert_eq!(value, expected, "{}: {key}, off by {off}", official.name);
        }
    }
}

/// Layers behind the one that predicts cost parameters, not operations: until RT-DETRv2 is deployed
/// and after, and D-FINE until it is deployed.
#[test]
fn layers_that_only_train_cost_no_operations() {
    for official in models() {
        let short = official.architecture().unwrap();
        let mut long = short.clone();
        long.model.decoder.layers += 2;
        long.model.decoder.eval_layer = Some(short.model.decoder.layers - 1);
        let [short, long] = [short, long].map(|config| cost(&config, 80, 640));
        assert!(long.parameters > short.parameters);
        assert_eq!(long.flops, short.flops, "{}", official.name);
        assert_eq!(long.flops_deployed, short.flops_deployed, "{}", official.name);
        assert_eq!(long.flops_calflops, short.flops_calflops, "{}", official.name);
        let cut = official.family == deim_spec::official::Family::Dfine;
        assert_eq!(long.parameters_deployed == short.parameters_deployed, cut, "{}", official.name);
    }
}

#[test]
fn parameters_do_not_depend_on_the_size_of_the_image() {
    for official in models() {
        let config = official.architecture().unwrap();
        let [small, large] = [320, 1280].map(|side| cost(&config, 80, side));
        assert_eq!(small.parameters, large.parameters);
        assert!(small.flops_deployed * 4 < large.flops_deployed);
    }
}
