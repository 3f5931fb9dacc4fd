//! The one way in which detgate writes files, and what to do where the system refuses one.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// An error of the system with what to do about it.
pub(crate) fn failed(error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "change its permissions, or name another"
        }
        io::ErrorKind::IsADirectory => "name a file, not a folder",
        io::ErrorKind::NotADirectory => "name a folder, not a file",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space",
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            "fetch or copy it again"
        }
        _ => "check the disk, or copy it again",
    };
    format!("{error}; {remedy}")
}

/// Writes `contents` to `path` whole or not at all: a reader sees the old file or the new one. Missing
/// folders are made.
///
/// # Errors
/// What the system said; the caller names the path.
pub(crate) fn write_atomically(path: &Path, mut contents: impl Read) -> io::Result<()> {
    write_atomically_with(path, |file| io::copy(&mut contents, file).map(drop))
}

/// As [`write_atomically`], what `write` puts into the file: contents that need not be in memory.
///
/// # Errors
/// As [`write_atomically`].
pub(crate) fn write_atomically_with(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".detgate-");
    // Temporary files are private by default; ours are committed, served and read by everyone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    let mut file = builder.tempfile_in(folder)?;
    write(file.as_file_mut())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
