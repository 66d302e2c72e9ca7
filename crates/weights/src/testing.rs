//! Small weight files for tests, written byte by byte.

use std::path::Path;

use crate::archive::crc32;
use crate::error::Problem;
use crate::file::{WeightFile, from_source};
use crate::source::Source;

/// Opens a file that is in memory.
pub fn open(bytes: Vec<u8>) -> Result<WeightFile, Problem> {
    from_source(Path::new("test.pth"), Source::Memory(bytes))
}

/// A zip archive of stored entries, as `torch.save` writes it.
pub fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let start = bytes.len() as u32;
        let mut header = Vec::new();
        header.extend([0_u8; 8]); // time, date and, later, the checksum
        header[4..8].copy_from_slice(&crc32(data).to_le_bytes());
        header.extend((data.len() as u32).to_le_bytes());
        header.extend((data.len() as u32).to_le_bytes());
        header.extend((name.len() as u16).to_le_bytes());
        header.extend(0_u16.to_le_bytes());
        bytes.extend(b"PK\x03\x04\x00\x00\x00\x00\x00\x00");
        bytes.extend(&header);
        bytes.extend(name.as_bytes());
        bytes.extend(*data);
        directory.extend(b"PK\x01\x02\x00\x00\x00\x00\x00\x00\x00\x00");
        directory.extend(&header);
        directory.extend([0; 10]);
        directory.extend(start.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let start = bytes.len() as u32;
    let count = (entries.len() as u16).to_le_bytes();
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06\x00\x00\x00\x00");
    bytes.extend(count);
    bytes.extend(count);
    bytes.extend((directory.len() as u32).to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0; 2]);
    bytes
}

/// A pickle with this inside.
pub fn pickle(program: &[u8]) -> Vec<u8> {
    [b"\x80\x02", program, b"."].concat()
}

/// A PyTorch file of a pickle and one storage `0`.
pub fn torch(program: &[u8], storage: &[u8]) -> Vec<u8> {
    zip(&[
        ("file/data.pkl", &pickle(program)),
        ("file/byteorder", b"little"),
        ("file/data/0", storage),
        ("file/version", b"3\n"),
    ])
}

/// The instructions for a text.
pub fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// The instructions for an integer.
pub fn int(value: i32) -> Vec<u8> {
    [b"J", &value.to_le_bytes()[..]].concat()
}

/// The instructions for a tuple of these.
pub fn tuple(values: &[Vec<u8>]) -> Vec<u8> {
    [b"(", values.concat().as_slice(), b"t"].concat()
}

/// The instructions for a dictionary with text keys.
pub fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> =
        entries.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect();
    [b"}(", entries.as_slice(), b"u"].concat()
}

/// The instructions for a call.
pub fn call(module: &str, name: &str, arguments: &[Vec<u8>]) -> Vec<u8> {
    [format!("c{module}\n{name}\n").as_bytes(), &tuple(arguments), b"R"].concat()
}

/// The instructions for a tensor of this type in storage `0` of so many numbers.
pub fn tensor(kind: &str, count: i32, offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let storage = tuple(&[
        text("storage"),
        format!("ctorch\n{kind}\n").into_bytes(),
        text("0"),
        text("cpu"),
        int(count),
    ]);
    let sizes = |sizes: &[i32]| tuple(&sizes.iter().map(|&size| int(size)).collect::<Vec<_>>());
    let hooks = call("collections", "OrderedDict", &[]);
    call(
        "torch._utils",
        "_rebuild_tensor_v2",
        &[
            [storage, b"Q".to_vec()].concat(),
            int(offset),
            sizes(shape),
            sizes(strides),
            b"\x89".to_vec(),
            hooks,
        ],
    )
}

/// Bytes of these numbers.
pub fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A training checkpoint in the official layout: two tensors in one storage of six numbers.
pub fn checkpoint() -> Vec<u8> {
    let weights = |first: &str, second: &str| {
        dict(&[
            (first, tensor("FloatStorage", 6, 0, &[2, 2], &[1, 2])),
            (second, tensor("FloatStorage", 6, 4, &[2], &[1])),
        ])
    };
    let state = [
        b"}(".to_vec(),
        int(0),
        dict(&[("step", int(3)), ("exp_avg", tensor("FloatStorage", 6, 2, &[3], &[1]))]),
        b"u".to_vec(),
    ]
    .concat();
    let group = dict(&[("lr", b"G\x3f\xe0\0\0\0\0\0\0".to_vec()), ("params", tuple(&[int(0)]))]);
    let program = dict(&[
        ("date", text("2025-01-01")),
        ("last_epoch", int(7)),
        ("model", weights("module.backbone.a", "module.decoder.b")),
        ("criterion", dict(&[])),
        ("ema", dict(&[("module", weights("backbone.a", "decoder.b")), ("updates", int(20))])),
        ("optimizer", dict(&[("state", state), ("param_groups", tuple(&[group]))])),
    ]);
    torch(&program, &floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
}
