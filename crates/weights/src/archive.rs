//! Zip archives as `torch.save` writes them: stored entries, one folder.
//!
//! Only the central directory is believed, and only as far as the file's length allows.

use std::collections::BTreeMap;

use crate::error::{Problem, broken, refused, unsupported};
use crate::source::{Source, number};

/// Where an entry's bytes are.
#[derive(Clone, Debug)]
pub struct Stored {
    pub start: u64,
    pub length: u64,
    pub checksum: u32,
    /// Compressed or encrypted: not written by `torch.save`, except within programs.
    packed: bool,
}

/// The entries of an archive by their names, without the folder around all of them.
#[derive(Debug)]
pub struct Archive {
    pub entries: BTreeMap<String, Stored>,
}

const END: u64 = 0x0605_4b50;
const END_64: u64 = 0x0606_4b50;
const END_64_LOCATOR: u64 = 0x0706_4b50;
const DIRECTORY_ENTRY: u64 = 0x0201_4b50;
const LOCAL_HEADER: u64 = 0x0403_4b50;

/// The end record and the longest comment after it.
const LONGEST_END: u64 = 22 + 65535;
/// The largest models have some 5000 entries.
const MAX_ENTRIES: u64 = 100_000;
const MAX_DIRECTORY: u64 = 64 << 20;

impl Archive {
    pub fn read(source: &Source) -> Result<Self, Problem> {
        let (count, start, length) = directory(source)?;
        if count > MAX_ENTRIES || length > MAX_DIRECTORY {
            return refused(format!("an archive of {count} entries"));
        }
        let bytes = source.read(start, length)?;
        let mut entries = BTreeMap::new();
        let mut at = 0;
        for _ in 0..count {
            let (name, stored, next) = entry(source, &bytes, at)?;
            at = next;
            if entries.insert(name.clone(), stored).is_some() {
                return refused(format!("the archive has two entries named `{name}`"));
            }
        }
        Ok(Self { entries: without_folder(entries)? })
    }

    /// The bytes of an entry, their checksum compared.
    pub fn fetch(&self, source: &Source, name: &str) -> Result<Vec<u8>, Problem> {
        let Some(stored) = self.entries.get(name) else {
            return broken(format!("the archive has no `{name}`"));
        };
        if stored.packed {
            return unsupported(format!(
                "the entry `{name}` is compressed or encrypted; torch.save writes neither"
            ));
        }
        let bytes = source.read(stored.start, stored.length)?;
        if crc32(&bytes) != stored.checksum {
            return broken(format!(
                "the checksum of `{name}` is wrong (if the file was written with \
                 torch.serialization.set_crc32_options(False), save it again without)"
            ));
        }
        Ok(bytes)
    }
}

/// Number of entries, start and length of the central directory.
fn directory(source: &Source) -> Result<(u64, u64, u64), Problem> {
    let total = source.length();
    let length = total.min(LONGEST_END);
    let tail_start = total - length;
    let tail = source.read(tail_start, length)?;
    let end = (0..tail.len().saturating_sub(21)).rev().find(|&at| {
        let comment = number(&tail, at + 20, 2).unwrap_or(u64::MAX);
        number(&tail, at, 4).is_ok_and(|magic| magic == END)
            && at as u64 + 22 + comment == tail.len() as u64
    });
    let Some(end) = end else {
        return broken("the archive has no end record");
    };
    let count = number(&tail, end + 10, 2)?;
    let length = number(&tail, end + 12, 4)?;
    let start = number(&tail, end + 16, 4)?;
    // Large archives keep the real numbers in a second record, found through a locator before the end.
    let locator = (tail_start + end as u64).checked_sub(20).map(|at| source.read(at, 20));
    if let Some(locator) = locator.transpose()?
        && number(&locator, 0, 4)? == END_64_LOCATOR
    {
        let record = source.read(number(&locator, 8, 8)?, 56)?;
        if number(&record, 0, 4)? != END_64 {
            return broken("the archive's 64-bit end record is not where it should be");
        }
        let fields = (number(&record, 32, 8)?, number(&record, 48, 8)?, number(&record, 40, 8)?);
        return Ok(fields);
    }
    Ok((count, start, length))
}

/// One entry of the central directory: its name, where its bytes are, where the next entry is.
fn entry(source: &Source, directory: &[u8], at: usize) -> Result<(String, Stored, usize), Problem> {
    let field = |offset: usize, width: usize| number(directory, at + offset, width);
    if field(0, 4)? != DIRECTORY_ENTRY {
        return broken("the archive's directory is not a list of entries");
    }
    let [flags, method] = [field(8, 2)?, field(10, 2)?];
    let checksum = field(16, 4)? as u32;
    let [mut packed, mut length] = [field(20, 4)?, field(24, 4)?];
    let [name_length, extra_length, comment_length] = [field(28, 2)?, field(30, 2)?, field(32, 2)?];
    let mut header = field(42, 4)?;
    let name_start = at + 46;
    let extra_start = name_start + name_length as usize;
    let next = extra_start + (extra_length + comment_length) as usize;
    let Some(name) = directory.get(name_start..extra_start) else {
        return broken("the archive's directory is cut short");
    };
    let Ok(name) = String::from_utf8(name.to_vec()) else {
        return broken("an entry's name is not text");
    };
    // Numbers that need 64 bits are in an extra field, those that need them only.
    let mut extra = extra_start;
    let extra_end = extra_start + extra_length as usize;
    while extra + 4 <= extra_end {
        let (kind, size) = (number(directory, extra, 2)?, number(directory, extra + 2, 2)?);
        let mut value = extra + 4;
        extra = value + size as usize;
        if kind != 1 {
            continue;
        }
        for small in [&mut length, &mut packed, &mut header] {
            if *small == u64::from(u32::MAX) && value + 8 <= extra {
                *small = number(directory, value, 8)?;
                value += 8;
            }
        }
    }
    let packed =
        if flags & 1 != 0 || method != 0 || packed != length { Some(packed) } else { None };
    let local = source.read(header, 30)?;
    if number(&local, 0, 4)? != LOCAL_HEADER || number(&local, 26, 2)? != name_length {
        return broken(format!("the entry `{name}` is not where the directory says"));
    }
    let skip = 30 + name_length + number(&local, 28, 2)?;
    let start = header.checked_add(skip);
    let end = start.and_then(|start| start.checked_add(packed.unwrap_or(length)));
    match (start, end) {
        (Some(start), Some(end)) if end <= source.length() => {
            Ok((name, Stored { start, length, checksum, packed: packed.is_some() }, next))
        }
        _ => broken(format!("the entry `{name}` reaches beyond the end of the file")),
    }
}

/// `torch.save` puts everything into one folder, named as the file once was.
fn without_folder(entries: BTreeMap<String, Stored>) -> Result<BTreeMap<String, Stored>, Problem> {
    let mut pickles = entries
        .keys()
        .filter_map(|name| name.strip_suffix("data.pkl"))
        .filter(|folder| folder.is_empty() || folder.ends_with('/'));
    let Some(folder) = pickles.next().map(str::to_owned) else {
        return unsupported("a zip archive without data.pkl; not written by torch.save");
    };
    if pickles.next().is_some() {
        return refused("the archive has more than one data.pkl");
    }
    let inside = |(name, stored): (String, Stored)| {
        name.strip_prefix(&folder).map(|name| (name.to_owned(), stored))
    };
    Ok(entries.into_iter().filter_map(inside).collect())
}

/// The checksum of zip archives.
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, &byte| TABLE[usize::from(sum as u8 ^ byte)] ^ (sum >> 8))
}

static TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { 0xedb8_8320 ^ (sum >> 1) } else { sum >> 1 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_zip() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
