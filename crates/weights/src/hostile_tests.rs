//! Files that are damaged, or made to do harm: each gives an error and nothing else.

use proptest::prelude::*;

use crate::error::Problem;
use crate::file::{Moment, Part, WeightFile};
use crate::layout::Layout;
use crate::testing::{
    call, checkpoint, dict, floats, int, open, pickle, tensor, text, torch, tuple, zip,
};

/// Opens a file and reads every tensor, as the most curious user would.
fn read_all(bytes: Vec<u8>) -> Result<WeightFile, Problem> {
    let file = open(bytes)?;
    for entry in file.all() {
        file.read(entry).map_err(|error| error.problem)?;
    }
    Ok(file)
}

/// The error of a file that holds a pickle with this inside.
fn error(program: &[u8]) -> String {
    read_all(torch(program, &floats(&[0.0; 6]))).unwrap_err().to_string()
}

#[test]
fn a_training_checkpoint_is_understood() {
    let file = read_all(checkpoint()).unwrap();
    assert_eq!(file.layout, Layout::Training);
    assert_eq!(file.numbers["last_epoch"], 7.0);
    assert_eq!(file.numbers["ema.updates"], 20.0);
    assert_eq!(file.top_level[0], ("date".into(), "'2025-01-01'".into()));
    // The average is preferred, and the wrapper's prefix is gone.
    let (part, average) = file.best().unwrap();
    assert_eq!(part, Part::Ema);
    assert!(average.keys().eq(file.parts[&Part::Model].keys()));
    // A transposed view.
    assert_eq!(file.read(&average["backbone.a"]).unwrap().f32s(), [1.0, 3.0, 2.0, 4.0]);
    assert_eq!(file.read(&average["decoder.b"]).unwrap().f32s(), [5.0, 6.0]);
    let optimizer = file.optimizer.as_ref().unwrap();
    assert!(matches!(optimizer.state[&0]["step"], Moment::Number(3.0)));
    let Moment::Tensor(moment) = &optimizer.state[&0]["exp_avg"] else { panic!("a tensor") };
    assert_eq!(file.read(moment).unwrap().f32s(), [3.0, 4.0, 5.0]);
    assert_eq!(optimizer.groups[0].numbers["lr"], 0.5);
    assert_eq!(optimizer.groups[0].parameters, [0]);
}

#[test]
fn a_call_of_anything_else_is_refused_by_its_name() {
    let system = call("os", "system", &[text("touch /tmp/owned")]);
    let refused = "refused: the file asks to call `os.system`";
    assert!(error(&system).starts_with(refused), "{}", error(&system));
    assert!(error(&dict(&[("model", system)])).starts_with(refused));
    // The other ways to call something.
    let stack_global = [text("os"), text("system"), b"\x93".to_vec(), tuple(&[]), b"R".to_vec()];
    let new = [b"cos\nsystem\n".to_vec(), tuple(&[]), b"\x81".to_vec()].concat();
    let new_with_keys = [b"cos\nsystem\n".to_vec(), tuple(&[]), dict(&[]), b"\x92".to_vec()];
    let instance = [b"(".to_vec(), text("ls"), b"ios\nsystem\n".to_vec()].concat();
    let object = [b"(cos\nsystem\n".to_vec(), text("ls"), b"o".to_vec()].concat();
    let reconstructed =
        call("copyreg", "_reconstructor", &[b"cos\nsystem\n".to_vec(), b"N".to_vec()]);
    let wrapped = call(
        "torch._tensor",
        "_rebuild_from_type_v2",
        &[b"cos\nsystem\n".to_vec(), b"N".to_vec(), tuple(&[])],
    );
    let programs =
        [stack_global.concat(), new, new_with_keys.concat(), instance, object, reconstructed];
    for program in programs {
        assert!(error(&program).starts_with(refused), "{}", error(&program));
    }
    assert!(error(&wrapped).contains("os.system"), "{}", error(&wrapped));
    for name in ["eval", "exec", "getattr", "__import__"] {
        let program = call("builtins", name, &[text("x")]);
        assert!(error(&program).contains(&format!("`builtins.{name}`")), "{}", error(&program));
    }
    let storage =
        tuple(&[text("storage"), b"cos\nsystem\n".to_vec(), text("0"), text("cpu"), int(1)]);
    assert!(error(&[storage, b"Q".to_vec()].concat()).starts_with(refused));
}

#[test]
fn objects_of_plain_data_stay_closed_and_are_told() {
    let options =
        [call("argparse", "Namespace", &[]), dict(&[("lr", int(1))]), b"b".to_vec()].concat();
    let program = dict(&[
        ("model", dict(&[("decoder.a", tensor("FloatStorage", 6, 0, &[6], &[1]))])),
        ("args", options),
        ("unused", b"cos\nsystem\n".to_vec()),
    ]);
    let file = read_all(torch(&program, &floats(&[0.0; 6]))).unwrap();
    assert_eq!(file.layout, Layout::Released);
    assert_eq!(file.top_level[1], ("args".into(), "argparse.Namespace".into()));
    assert!(file.notes.keys().any(|note| note.contains("argparse.Namespace")));
}

#[test]
fn sizes_that_the_file_does_not_have_are_refused_before_memory_is_asked_for() {
    let weights = |tensor: Vec<u8>| error(&dict(&[("decoder.a", tensor)]));
    let cases = [
        // Beyond the storage, in four ways.
        weights(tensor("FloatStorage", 6, 0, &[7], &[1])),
        weights(tensor("FloatStorage", 6, 5, &[2], &[1])),
        weights(tensor("FloatStorage", 6, 0, &[i32::MAX, i32::MAX, i32::MAX], &[i32::MAX, 1, 1])),
        weights(tensor("FloatStorage", 6, 0, &[2], &[i32::MAX])),
        // A storage that the archive does not have in this size.
        weights(tensor("FloatStorage", i32::MAX, 0, &[i32::MAX], &[1])),
        weights(tensor("DoubleStorage", 6, 0, &[6], &[1])),
        // One number, repeated without end.
        weights(tensor("FloatStorage", 6, 0, &[i32::MAX], &[0])),
        weights(tensor("FloatStorage", 6, 0, &[-1], &[1])),
        weights(tensor("FloatStorage", -6, 0, &[1], &[1])),
        weights(tensor("FloatStorage", 6, 0, &[1, 1], &[1])),
    ];
    for error in &cases {
        assert!(
            error.contains("tensor")
                || error.contains("size of -1")
                || error.contains("storage of -6"),
            "{error}"
        );
    }
    assert!(cases[6].starts_with("refused:"), "{}", cases[6]);
    // Lengths of texts, integers and names.
    for program in [
        &b"X\xff\xff\xff\xff"[..],
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8b\xff\xff\xff\x7f",
        b"B\xff\xff\xff\xff",
        b"cos",
        b"C",
    ] {
        assert!(matches!(
            read_all(torch(program, &[])),
            Err(Problem::Broken(_) | Problem::Refused(_))
        ));
    }
}

#[test]
fn a_small_pickle_cannot_grow_without_end() {
    // Each list holds the one before twice: 2^60 values for whoever walks through all of them.
    let mut program = b"]q\x00".to_vec();
    for _ in 0..60 {
        program.extend(b"](h\x00h\x00eq\x00");
    }
    assert!(error(&program).contains("expected a state dict"), "{}", error(&program));
    // A dictionary within itself.
    let cycle = [b"}q\x00".to_vec(), text("model"), b"h\x00s".to_vec()].concat();
    assert!(matches!(read_all(torch(&cycle, &[])), Ok(file) if file.best().unwrap().1.is_empty()));
    let cycle =
        [b"}q\x00".to_vec(), text("ema"), b"h\x00s".to_vec(), text("module"), b"h\x00s".to_vec()]
            .concat();
    assert!(read_all(torch(&cycle, &[])).is_ok());
    // Values without end.
    assert!(error(&vec![b'N'; 5_000_000]).starts_with("refused: more than"));
    assert!(error(&vec![b'('; 5_000_000]).starts_with("refused: more than"));
    // References without end to something large.
    let long = [b"X\x00\x00\x01\x00".to_vec(), vec![b'a'; 0x10000], b"q\x00".to_vec()].concat();
    let repeat = b"h\x00h\x00\x93".repeat(1000);
    assert!(error(&[long, repeat].concat()).contains("a name expected"));
    // One optimizer state of many entries for many parameters.
    let moments: Vec<(String, Vec<u8>)> =
        (0..1000).map(|index| (index.to_string(), int(1))).collect();
    let moments: Vec<(&str, Vec<u8>)> =
        moments.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let mut state = [b"}(".to_vec(), int(0), dict(&moments), b"q\x01".to_vec()].concat();
    (1..1000).for_each(|index| state.extend([int(index), b"h\x01".to_vec()].concat()));
    state.push(b'u');
    let program = dict(&[("model", dict(&[])), ("optimizer", dict(&[("state", state)]))]);
    assert!(error(&program).starts_with("refused: more than"), "{}", error(&program));
}

#[test]
fn the_stack_and_the_memory_of_the_machine_are_guarded() {
    for program in [
        &b""[..],
        b"0",
        b"R",
        b"s",
        b"u",
        b"t",
        b"\x87",
        b"(0",
        b"h\x07",
        b"q\x00",
        b"Q",
        b"a",
        b"b",
        b"N)R",
        b"NNs",
        b"}(Nu",
        b"]}u",
        b"NQ",
        b"\x80\x09",
        b"\x97",
        b"P0\n",
    ] {
        let file = torch(program, &[]);
        assert!(read_all(file).is_err(), "{program:?}");
    }
}

#[test]
fn archives_that_contradict_themselves_are_refused() {
    let weights = pickle(&dict(&[("decoder.a", tensor("FloatStorage", 1, 0, &[1], &[1]))]));
    let numbers = floats(&[1.0]);
    let sound = [("x/data.pkl", weights.as_slice()), ("x/data/0", numbers.as_slice())];
    assert!(read_all(zip(&sound)).is_ok());
    let told = |entries: &[(&str, &[u8])]| read_all(zip(entries)).unwrap_err().to_string();
    assert!(told(&[sound[0], sound[0], sound[1]]).contains("two entries named"));
    assert!(
        told(&[sound[0], ("y/data.pkl", &weights), sound[1]]).contains("more than one data.pkl")
    );
    assert!(told(&[sound[0]]).contains("storage `0` is missing"));
    assert!(told(&[sound[1]]).contains("without data.pkl"));
    assert!(told(&[sound[0], ("x/constants.pkl", b""), sound[1]]).contains("TorchScript"));
    assert!(
        told(&[("x/data.pkl", &[weights.as_slice(), b"."].concat()), sound[1]])
            .contains("the pickle ends")
    );
    // A changed number in the weights is noticed, too.
    let mut bytes = zip(&sound);
    let place = bytes.windows(4).position(|window| window == numbers).unwrap();
    bytes[place] ^= 1;
    let told = read_all(bytes).unwrap_err().to_string();
    assert!(told.contains("the checksum of `data/0` is wrong"), "{told}");
    // A big-endian machine's file.
    let file = zip(&[sound[0], ("x/byteorder", b"big"), ("x/data/0", &1.5_f32.to_be_bytes())]);
    let file = read_all(file).unwrap();
    let entry = &file.best().unwrap().1["decoder.a"];
    assert_eq!(file.read(entry).unwrap().f32s(), [1.5]);
}

/// A file in the format before PyTorch 1.6.
fn legacy() -> Vec<u8> {
    let weights = dict(&[("stem.a", tensor("FloatStorage", 6, 2, &[2, 2], &[2, 1]))]);
    // References to storages have one more value there.
    let old = b"J\x06\x00\x00\x00t";
    let at = weights.windows(old.len()).position(|window| window == old).unwrap() + 5;
    let weights = [&weights[..at], b"N", &weights[at..]].concat();
    [
        &crate::legacy::MAGIC[..],
        &pickle(&int(1001)),
        &pickle(&dict(&[("little_endian", b"\x88".to_vec()), ("protocol_version", int(1001))])),
        &pickle(&weights),
        &pickle(&[b"](".to_vec(), text("0"), b"e".to_vec()].concat()),
        &6_u64.to_le_bytes(),
        &floats(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
    ]
    .concat()
}

#[test]
fn the_old_format_of_a_backbone_is_read() {
    let file = read_all(legacy()).unwrap();
    assert_eq!(file.layout, Layout::Backbone);
    let entry = &file.best().unwrap().1["backbone.stem.a"];
    assert_eq!(file.read(entry).unwrap().f32s(), [2.0, 3.0, 4.0, 5.0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_file_cut_anywhere_is_an_error(share in 0.0..1.0_f64, old: bool) {
        let whole = if old { legacy() } else { checkpoint() };
        let length = (whole.len() as f64 * share) as usize;
        prop_assert!(read_all(whole[..length].to_vec()).is_err());
    }

    #[test]
    fn changed_bytes_never_do_harm(
        changes in prop::collection::vec((0.0..1.0_f64, any::<u8>()), 1..8),
        old: bool,
    ) {
        let mut bytes = if old { legacy() } else { checkpoint() };
        let length = bytes.len() as f64;
        for (share, byte) in changes {
            bytes[(length * share) as usize] = byte;
        }
        let _ = read_all(bytes);
    }

    #[test]
    fn a_pickle_of_any_bytes_never_does_harm(program in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_all(torch(&program, &[0; 24]));
    }

    #[test]
    fn a_pickle_of_any_instructions_never_does_harm(
        choices in prop::collection::vec(0..24_usize, 0..60),
    ) {
        let pieces: [Vec<u8>; 24] = [
            b"(".to_vec(), b"t".to_vec(), b"}".to_vec(), b"]".to_vec(), b"u".to_vec(), b"s".to_vec(),
            b"a".to_vec(), b"e".to_vec(), b"q\x00".to_vec(), b"h\x00".to_vec(), b"R".to_vec(),
            b"b".to_vec(), b"0".to_vec(), b"2".to_vec(), b"Q".to_vec(), b"\x85".to_vec(),
            text("model"), text("decoder.a"), int(1), int(-1), b"ccollections\nOrderedDict\n".to_vec(),
            tensor("FloatStorage", 6, 0, &[2, 3], &[3, 1]), dict(&[]), b")".to_vec(),
        ];
        let program: Vec<u8> = choices.iter().flat_map(|&choice| pieces[choice].clone()).collect();
        let _ = read_all(torch(&program, &[0; 24]));
    }

    #[test]
    fn safetensors_of_changed_bytes_never_do_harm(
        changes in prop::collection::vec((0.0..1.0_f64, any::<u8>()), 1..4),
        cut in 0.0..1.5_f64,
    ) {
        let tensor = crate::Tensor::from_f32s(&[2, 3], &[1.0; 6]);
        let tensors = [("decoder.a".to_owned(), tensor)].into();
        let mut bytes = crate::encode(&tensors).unwrap();
        let length = bytes.len() as f64;
        for (share, byte) in changes {
            bytes[(length * share) as usize] = byte;
        }
        bytes.truncate((length * cut) as usize);
        let _ = read_all(bytes);
    }
}
