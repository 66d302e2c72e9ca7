//! What is done with a weight file, and an archive to put a pickle into.

use std::path::Path;

use deim_weights::{Leaf, open, tree};

/// Opens a file and reads every tensor, as the most curious user would.
pub fn read_all(path: &Path) {
    let Ok(file) = open(path) else { return };
    for entry in file.all() {
        let Ok(tensor) = file.read(entry) else { continue };
        let count: u64 = tensor.shape.iter().map(|&side| side as u64).product();
        assert_eq!(tensor.bytes.len() as u64, count * tensor.dtype.size());
        assert_eq!(tensor.f32s().len() as u64, count);
    }
    for entries in file.parts.values() {
        tree(entries.iter().map(|(name, entry)| (name.as_str(), leaf(entry))));
    }
}

/// A zip archive of stored entries with right checksums, as `torch.save` writes it.
pub fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let start = bytes.len() as u32;
        let mut header = vec![0; 4];
        header.extend(crc32(data).to_le_bytes());
        header.extend((data.len() as u32).to_le_bytes());
        header.extend((data.len() as u32).to_le_bytes());
        header.extend((name.len() as u16).to_le_bytes());
        header.extend([0; 2]);
        bytes.extend(b"PK\x03\x04\0\0\0\0\0\0");
        bytes.extend(&header);
        bytes.extend(name.as_bytes());
        bytes.extend(*data);
        directory.extend(b"PK\x01\x02\0\0\0\0\0\0\0\0");
        directory.extend(&header);
        directory.extend([0; 10]);
        directory.extend(start.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let start = bytes.len() as u32;
    let count = (entries.len() as u16).to_le_bytes();
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([count, count].concat());
    bytes.extend((directory.len() as u32).to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0; 2]);
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    })
}

fn leaf(entry: &deim_weights::Entry) -> Leaf {
    Leaf { dtype: entry.dtype, shape: entry.shape.clone() }
}
