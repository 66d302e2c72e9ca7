//! Names of image files: which may be opened, where they are, and which files a folder has.

use std::path::{Path, PathBuf};

/// What image files are called. Only JPEG and PNG are read; the others are reported.
const EXTENSIONS: [&str; 9] = ["jpg", "jpeg", "png", "JPG", "JPEG", "PNG", "bmp", "webp", "tif"];

/// How deep folders of images may nest; it also ends loops of links.
const DEPTH: usize = 8;

/// A relative name with `/` that cannot leave the folder it is joined to, or none.
pub fn safe_name(name: &str) -> Option<String> {
    let name = name.replace('\\', "/");
    if name.is_empty() || name.starts_with('/') || name.contains('\0') || name.contains(":/") {
        return None;
    }
    let parts: Vec<&str> =
        name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.is_empty() || parts.contains(&"..") {
        return None;
    }
    Some(parts.join("/"))
}

/// The name without its first `count` folders.
pub fn strip(name: &str, count: usize) -> Option<&str> {
    (0..count).try_fold(name, |rest, _| rest.split_once('/').map(|(_, rest)| rest))
}

/// Length of a regular file, or none where there is no such file.
pub fn length(path: &Path) -> Option<u64> {
    let metadata = std::fs::metadata(path).ok()?;
    metadata.is_file().then_some(metadata.len())
}

/// The image called `stem` with any extension: its name relative to `folder`.
pub fn with_any_extension(folder: &Path, stem: &str) -> Option<String> {
    EXTENSIONS
        .iter()
        .map(|extension| format!("{stem}.{extension}"))
        .find(|name| length(&folder.join(name)).is_some())
}

/// Whether a file is called like an image.
pub fn named_like_an_image(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| {
        EXTENSIONS.contains(&extension.as_str()) || ["gif", "tiff"].contains(&extension.as_str())
    })
}

/// The files below a folder, relative and sorted, that `wanted` takes by name. Hidden ones and
/// unreadable folders are left out.
pub fn files_below(folder: &Path, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![(String::new(), 0)];
    while let Some((prefix, depth)) = open.pop() {
        let Ok(entries) = std::fs::read_dir(folder.join(&prefix)) else { continue };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let relative =
                if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
            let Ok(kind) = entry.file_type() else { continue };
            let is_folder = kind.is_dir()
                || kind.is_symlink() && std::fs::metadata(entry.path()).is_ok_and(|m| m.is_dir());
            if is_folder {
                if depth < DEPTH {
                    open.push((relative, depth + 1));
                }
            } else if wanted(&name) {
                found.push(relative);
            }
        }
    }
    found.sort();
    found
}

/// The files and folders directly in a folder, sorted by name.
pub fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    found.retain(|path| !file_name(path).starts_with('.'));
    found.sort();
    found
}

/// Files directly in a folder with this extension, sorted by name.
pub fn with_extension(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = entries(folder);
    found.retain(|path| path.extension().is_some_and(|e| e == extension) && path.is_file());
    found
}

pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

pub fn file_stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_folder() {
        for bad in
            ["", "/etc/passwd", "../x.jpg", "a/../../x.jpg", "a\\..\\x", "C:/x.jpg", "a\0b", "."]
        {
            assert_eq!(safe_name(bad), None, "{bad:?}");
        }
        assert_eq!(safe_name("./a//b\\c.jpg").as_deref(), Some("a/b/c.jpg"));
        assert_eq!(safe_name("a..b.jpg").as_deref(), Some("a..b.jpg"));
    }

    #[test]
    fn folders_are_stripped_from_the_left() {
        assert_eq!(strip("images/v1/patch0/x.jpg", 2), Some("patch0/x.jpg"));
        assert_eq!(strip("x.jpg", 0), Some("x.jpg"));
        assert_eq!(strip("x.jpg", 1), None);
    }
}
